"""Watches one emulator process: takes its events and its console, and decides how it ended.

The emulator writes frames (and noise) to its standard output and the serial console to a file. It is stopped whatever
happens: a panic, the end of the job's time, Ctrl-C, an exception of the event handler.
"""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path

from kvmharness.errors import LostMachineError
from kvmharness.lab.inside.frames import Decoder, FloodError
from kvmharness.lab.job import AGENT_ENDED, HangError, Job, KernelPanicError, OnEvent, ProtocolError
from kvmharness.lab.jobrun import JobRun
from kvmharness.lab.machines.console import MAX_BYTES as CONSOLE_BYTES
from kvmharness.lab.machines.console import Console
from kvmharness.lab.machines.process import LOG, end_of, has_ended, started, used_s

STOPPED: ContextVar[Callable[[], bool]] = ContextVar("STOPPED", default=lambda: False)
"""Says, in a thread that runs an emulator, whether that is to be stopped: Ctrl-C reaches the main thread only."""

_POLL_S = 0.1
_PANIC_WAIT_S = 3.0
_BOOT_S = 60.0  # a host that is not up yet may be silent for this long, whatever the job says
_REST_BYTES = 1 << 20  # of output that an emulator has left behind; a pipe holds less
_FILE_BYTES = 2 * CONSOLE_BYTES  # of the console, and of what it says besides; of the former that is never looked at
_IDLE = 5  # so many times as long may an emulator be silent that does not even use the processor


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
    with started(argv, folder, env or {}, largest_file=_FILE_BYTES) as process:
        try:
            noise = _watch(process, console, name, run, _Limits(job.timeout_s, job.silence_s, process.pid))
        except ProtocolError as error:
            console.read()
            error.console = console.whole
            raise
    console.read()
    if not run.complete:
        _raise_lost(name, process.returncode, console, noise + end_of(folder / LOG))


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
        """Events have come."""
        self._heard, self._used = time.monotonic(), used_s(self._pid)

    @property
    def over(self) -> bool:
        """Whether the job's time is over; cheap enough to be asked at each event."""
        return time.monotonic() > self._started + self._timeout_s

    def exceeded(self) -> str:
        """Which limit was exceeded, in words; empty while none is."""
        now = time.monotonic()
        if self.over:
            return f"not done after {self._timeout_s:g} s"
        if self._silence_s is None or now < self._heard + self._silence_s:
            return ""
        if used_s(self._pid) > self._used + self._silence_s or now > self._heard + _IDLE * self._silence_s:
            return f"silent for {self._silence_s:g} s"
        return ""


def _watch(process: subprocess.Popen[bytes], console: Console, name: str, run: JobRun, limits: _Limits) -> bytes:
    """Reads until the job is complete or the emulator has ended; returns what else it printed."""
    assert process.stdout is not None
    decoder = Decoder()
    panic_deadline = 0.0
    agent_ended = False
    left = _REST_BYTES
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            # Asked before the pipe is looked at: then nothing that it wrote is missed. Its end need not be the pipe's,
            # which a process that it has started may hold, and write to.
            ended = has_ended(process)
            chunk = b""
            if selector.select(0 if ended else _POLL_S):
                chunk = os.read(process.stdout.fileno(), 1 << 16)
                _take(chunk, decoder, run, limits)
                if run.complete or not chunk:
                    return bytes(decoder.noise)
            if ended:
                left -= len(chunk)
                if not chunk or left < 0:
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
            if console.flooded:
                raise LostMachineError(
                    f"{name}: its console said more than {CONSOLE_BYTES >> 20} MiB, stopped; {run.progress}",
                    "the console's last lines say what",
                    console.whole,
                )
            if agent_ended and not chunk:  # all that it said before is read: whoever takes the events may be slow
                raise LostMachineError(f"{name}: the agent inside ended early; {run.progress}", "", console.whole)
            agent_ended = any(AGENT_ENDED in line for line in console.last)
            if why := limits.exceeded():
                raise HangError(
                    f"{name}: {why}, stopped; {run.progress}",
                    "give the job more time, or see the console's last lines",
                    console.whole,
                )


def _take(chunk: bytes, decoder: Decoder, run: JobRun, limits: _Limits) -> None:
    heard = False
    try:
        for event in decoder.feed(chunk):
            heard = True
            run.take(event)
            if run.complete or limits.over:
                break
    except FloodError as error:
        raise ProtocolError(str(error), run.progress) from None
    if heard:
        limits.heard()


def _raise_lost(name: str, status: int | None, console: Console, said: bytes) -> None:
    text = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    if console.panic():
        raise KernelPanicError(f"{name}: the kernel panicked: {console.panic()}", "", console.whole)
    how = (
        f"was killed by {next((known.name for known in signal.Signals if known == -status), f'signal {-status}')}"
        if status is not None and status < 0
        else f"ended (status {status})"
    )
    if status == -signal.SIGXFSZ:
        how += f", having written more than {_FILE_BYTES >> 20} MiB into a file,"
    raise LostMachineError(
        f"{name} {how} before the job was done",
        "\n".join(["it printed:", *text[-8:]]) if text else "",
        console.whole,
    )
