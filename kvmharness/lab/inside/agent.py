"""Runs inside the emulated host as /init's child: does a job's steps in order and sends what happens over the port.

Every step gives ``begin``, then any number of ``data`` (what a called function emits), ``output`` (text that it or a
program prints) and ``dmesg`` (lines that the kernel log gained), then ``end`` or ``error``. A step that fails does
not stop the job, unless it is one that the rest needs (``load``, ``unload``, or any step with ``"required": true``).
Imports little: this is loaded in an emulator at 50 million instructions a second.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module

from kvmharness.lab.inside.frames import encode
from kvmharness.lab.inside.modules import load, unload

JOB_PATH = "/job/job.json"

Emit = Callable[[dict[str, object]], None]
_REQUIRED = frozenset({"load", "unload"})


class _Text:
    """Stands for sys.stdout and sys.stderr during a job: whole lines become output events."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, send: Callable[[str], None]) -> None:
        self._send = send
        self._line = ""

    def write(self, text: str) -> int:
        self._line += text
        head, newline, self._line = self._line.rpartition("\n")
        if newline:
            self._send(head + newline)
        return len(text)

    def flush(self) -> None:
        if self._line:
            text, self._line = self._line, ""
            self._send(text)

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return 1


class KernelLog:
    """The kernel's log from now on: each call of :meth:`gained` gives the lines since the last one."""

    def __init__(self, path: str = "/dev/kmsg") -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._fd, 0, os.SEEK_END)

    def close(self) -> None:
        """Stops listening."""
        os.close(self._fd)

    def gained(self) -> list[str]:
        """New lines, without their time stamps, which say nothing in an emulator."""
        lines: list[str] = []
        while True:
            try:
                record = os.read(self._fd, 8192)
            except BlockingIOError:
                return lines
            except BrokenPipeError:  # the ring buffer overran us; the next read goes on with what is left
                lines.append("(kernel log lines were lost here)")
                continue
            # priority,sequence,time,flags;text, then lines of KEY=value that belong to the record.
            _, _, text = record.partition(b";")
            lines.append(text.partition(b"\n")[0].decode(errors="backslashreplace"))


class Agent:
    """Does the steps of one job.

    Attributes:
        send: takes one event; outside the tests it encodes it for the port.
    """

    def __init__(self, send: Emit, log: KernelLog) -> None:
        self._send = send
        self._log = log

    def run(self, steps: list[dict[str, object]]) -> None:
        """Do all *steps*, then say ``bye``, which tells a complete job from one that was cut short."""
        for number, step in enumerate(steps):
            if not self._step(number, step):
                break
        self._send({"event": "bye"})

    def _step(self, number: int, step: dict[str, object]) -> bool:
        """Do one step; False when the job must not go on."""

        def send(event: str, **fields: object) -> None:
            self._send({"step": number, "event": event, **fields})

        kind = str(step["do"])
        send("begin", do=kind)
        failure: dict[str, object] | None = None
        result: object = None
        try:
            result = _ACTIONS[kind](step, send)
        # Anything a step raises is news for the outside, and the next step may still be worth doing.
        except BaseException as error:
            failure = _describe(error)
        gained = self._log.gained()
        if gained:
            send("dmesg", lines=gained)
        if failure is None:
            send("end", result=result)
            return True
        send("error", **failure)
        return not (kind in _REQUIRED or step.get("required"))


def _describe(error: BaseException) -> dict[str, object]:
    """What goes out about an exception: type, message, exit code, and a traceback only if it is a bug."""
    exit_code = getattr(error, "exit_code", None)
    facts: dict[str, object] = {
        "type": type(error).__name__,
        "message": str(error),
        "hint": getattr(error, "hint", ""),
        "exit_code": None if exit_code is None else int(exit_code),
    }
    if exit_code is None:
        import traceback  # costs 50 ms in here, so only when it is needed

        facts["traceback"] = "".join(traceback.format_exception(error))
    return facts


def _load(step: dict[str, object], send: Callable[..., None]) -> object:
    return load(f"/job/modules/{step['variant']}", step.get("params") or {})  # type: ignore[arg-type]


def _unload(step: dict[str, object], send: Callable[..., None]) -> object:
    return unload()


def _call(step: dict[str, object], send: Callable[..., None]) -> object:
    module, _, name = str(step["function"]).partition(":")
    saved = sys.stdout, sys.stderr
    text = _Text(lambda piece: send("output", text=piece))
    sys.stdout = sys.stderr = text
    try:
        function = getattr(import_module(module), name)
        arguments: dict[str, object] = step.get("args") or {}  # type: ignore[assignment]
        return function(lambda data: send("data", data=data), **arguments)
    finally:
        text.flush()
        sys.stdout, sys.stderr = saved


def _exec(step: dict[str, object], send: Callable[..., None]) -> object:
    from kvmharness.lab.inside.execute import execute

    return execute(step, lambda piece: send("output", text=piece))


_ACTIONS: dict[str, Callable[[dict[str, object], Callable[..., None]], object]] = {
    "load": _load,
    "unload": _unload,
    "call": _call,
    "exec": _exec,
}


def main() -> None:
    """Run the job at :data:`JOB_PATH` and send its events over the port."""
    from kvmharness.lab.inside.port import Port

    port = Port()
    port.write(encode({"event": "hello", "python": sys.version.split()[0], "uptime_ns": time.monotonic_ns()}))
    with open(JOB_PATH, "rb") as file:
        job = json.loads(file.read())
    Agent(lambda event: port.write(encode(event)), KernelLog()).run(job["steps"])
