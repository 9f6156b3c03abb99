"""Watches one emulator process: takes its events and its console, and decides how it ended.

The emulator writes frames (and noise) to its standard output and the serial console to a file. It is stopped whatever
happens: a panic, the end of the job's time, Ctrl-C, an exception of the event handler.
"""

import os
import selectors
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import IO

from kvmharness.errors import LostMachineError
from kvmharness.lab.inside.frames import Decoder
from kvmharness.lab.job import AGENT_ENDED, HangError, Job, KernelPanicError, OnEvent, ProtocolError
from kvmharness.lab.jobrun import JobRun
from kvmharness.lab.machines.process import LOG, started, used_s

STOPPED: ContextVar[Callable[[], bool]] = ContextVar("STOPPED", default=lambda: False)
"""Says, in a thread that runs an emulator, whether that is to be stopped: Ctrl-C reaches the main thread only."""

_LOOKED_AT = 40  # lines that are searched for a panic each time
_POLL_S = 0.1
_PANIC = "Kernel panic - not syncing"
# The last line of a panic; it may not come, when the console itself is what broke.
_PANIC_END = "---[ end Kernel panic"
_PANIC_WAIT_S = 3.0
_BOOT_S = 60.0  # a host that is not up yet may be silent for this long, whatever the job says
_IDLE = 5  # so many times as long may an emulator be silent that does not even use the processor


class Console:
    """The serial console's file as it grows.

    Attributes:
        lines: every line so far, without colour codes or carriage returns.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = ""
        self.lines: list[str] = []

    def read(self) -> None:
        """Take what was written since the last time."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        self._offset += len(data)
        text = self._rest + data.decode(errors="backslashreplace").replace("\r", "")
        *whole, self._rest = text.split("\n")
        self.lines += [line for line in whole if line.strip()]

    @property
    def whole(self) -> tuple[str, ...]:
        """Every line, the unfinished one included."""
        return (*self.lines, *([self._rest] if self._rest.strip() else []))

    @property
    def last(self) -> tuple[str, ...]:
        """The last lines."""
        return self.whole[-_LOOKED_AT:]

    def panic(self) -> str:
        """The kernel's own sentence about why it panicked, or an empty string."""
        said = (line.partition(_PANIC)[2].strip(": ") for line in self.last if _PANIC in line)
        return next((why.removesuffix(" ]---") or _PANIC for why in said), "")  # the last line says it once more

    @property
    def panic_is_complete(self) -> bool:
        """Nothing more is to be expected from a panicked kernel."""
        return any(_PANIC_END in line for line in self.last)


def supervise(
    argv: Sequence[str],
    job: Job,
    on_event: OnEvent,
    *,
    name: str,
    console_path: Path,
    folder: Path,
    env: Mapping[str, str] | None = None,
) -> None:
    """Runs the emulator *argv* in *folder* until its job is done, it ends, or it must be ended.

    Args:
        job: what the agent in the emulated host does.
        on_event: takes each event.
        name: what to call it in messages.
        console_path: the file that the serial console is written to.

    Raises:
        StepFailedError, ProtocolError, KernelPanicError, HangError, LostMachineError, MissingToolError.
    """
    console = Console(console_path)
    run = JobRun(job, on_event)
    with started(argv, folder, env or {}) as process:
        assert process.stdout is not None
        try:
            noise = _watch(process.stdout, console, name, run, _Limits(job.timeout_s, job.silence_s, process.pid))
        except ProtocolError as error:
            console.read()
            error.console = console.whole
            raise
    console.read()
    if not run.complete:
        _raise_lost(name, process.returncode, console, noise + (folder / LOG).read_bytes())


class _Limits:
    """How long the whole job may take, and how long it may say nothing.

    Silence is counted in the processor time of the emulator: on a busy machine it lasts longer, and means no more.
    """

    def __init__(self, timeout_s: float, silence_s: float | None, pid: int) -> None:
        self._timeout_s, self._silence_s = timeout_s, silence_s
        self._pid = pid
        self._started = time.monotonic()
        before = max(0.0, _BOOT_S - (silence_s or 0.0))
        self._heard, self._used = self._started + before, before

    def heard(self) -> None:
        """An event has come."""
        self._heard, self._used = time.monotonic(), used_s(self._pid)

    def exceeded(self) -> str:
        """Which limit was exceeded, in words; empty while none is."""
        now = time.monotonic()
        if now > self._started + self._timeout_s:
            return f"not done after {self._timeout_s:g} s"
        if self._silence_s is None or now < self._heard + self._silence_s:
            return ""
        if used_s(self._pid) > self._used + self._silence_s or now > self._heard + _IDLE * self._silence_s:
            return f"silent for {self._silence_s:g} s"
        return ""


def _watch(stdout: IO[bytes], console: Console, name: str, run: JobRun, limits: _Limits) -> bytes:
    """Reads until the job is complete or the emulator closes its output; returns what else it printed."""
    decoder = Decoder()
    panic_deadline = 0.0
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while True:
            if selector.select(_POLL_S):
                chunk = os.read(stdout.fileno(), 1 << 16)
                for event in decoder.feed(chunk):
                    limits.heard()
                    run.take(event)
                if run.complete or not chunk:
                    return bytes(decoder.noise)
            if STOPPED.get()():
                raise LostMachineError(f"{name} was stopped; {run.progress}")
            console.read()
            now = time.monotonic()
            if console.panic():
                panic_deadline = panic_deadline or now + _PANIC_WAIT_S
                if console.panic_is_complete or now > panic_deadline:
                    raise KernelPanicError(
                        f"{name}: the kernel panicked: {console.panic()}; {run.progress}",
                        "the console's last lines say where",
                        console.whole,
                    )
            if any(AGENT_ENDED in line for line in console.last):
                raise LostMachineError(f"{name}: the agent inside ended early; {run.progress}", "", console.whole)
            if why := limits.exceeded():
                raise HangError(
                    f"{name}: {why}, stopped; {run.progress}",
                    "give the job more time, or see the console's last lines",
                    console.whole,
                )


def _raise_lost(name: str, status: int | None, console: Console, said: bytes) -> None:
    text = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    if console.panic():
        raise KernelPanicError(f"{name}: the kernel panicked: {console.panic()}", "", console.whole)
    how = (
        f"was killed by {signal.Signals(-status).name}"
        if status is not None and status < 0
        else f"ended (status {status})"
    )
    raise LostMachineError(
        f"{name} {how} before the job was done", "\n".join(["it printed:", *text[-8:]]) if text else "", console.whole
    )
