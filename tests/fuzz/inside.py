"""Does sequences of calls inside an emulated host, each in a process of its own, and says what came of them."""

import json
import os
import select
import signal
import time
import traceback
from functools import partial

from kvmharness.errors import KvmHarnessError
from kvmharness.hosts.facts import LAB_MARKER
from tests.fuzz.invoke import Invoker
from tests.fuzz.perform import Performer
from tests.fuzz.shrink import shortest

IOCTLS, METHODS = "ioctls", "methods"
WAITS = "waits"
"""The outcome of a call that was still waiting when its sequence's time was up."""
MARK = "fuzz:"
"""Begins a line in the kernel's log: which call of which sequence is about to be made."""

_SEQUENCE_S = 2.0  # of the host's own time
_COMMAND_LINE = "/proc/cmdline"


class NotEmulatedError(KvmHarnessError):
    """This machine is somebody's."""


def run(emit, *, level, sequences):
    """Does them, and makes each that fails as short as it can be made, which may end the host: it is told before, too.

    Args:
        emit: takes what is about to be done, and what came of it.
        level: :data:`IOCTLS` or :data:`METHODS`.
        sequences: of :mod:`tests.fuzz.calls` or of :mod:`tests.fuzz.methods`.

    Raises:
        NotEmulatedError: this is no emulated host of the lab.
    """
    refuse_outside()
    _write("/proc/sys/kernel/printk_devkmsg", "on\n")  # all of what is written there, however much
    for number, calls in enumerate(sequences):
        emit({"begins": number})
        outcomes, failure = done(level, calls, number)
        emit({"number": number, "outcomes": outcomes, "failure": failure, "calls": calls if failure else []})
        if failure:
            short = shortest(calls[: len(outcomes) + 1], partial(_fails, level, failure[0]))
            emit({"number": number, "outcomes": [], "failure": failure, "calls": short})


def _fails(level, kind, calls):
    """Whether calls fail in this way."""
    return done(level, calls)[1][:1] == [kind]


def refuse_outside(command_line=_COMMAND_LINE):
    """Nobody's own kernel is to be upset.

    Raises:
        NotEmulatedError: this is no emulated host of the lab.
    """
    with open(command_line) as file:
        if LAB_MARKER in file.read():
            return
    raise NotEmulatedError(
        "calls that are meant to upset a kernel are not made on this machine's own",
        "python -m tests.fuzz makes them in an emulated host",
    )


def done(level, calls, number=None):
    """Does one sequence in a process of its own.

    Returns:
        What came of each call, and of one that was no answer what was wrong: its kind and its text; empty when all
        were. A sequence whose time is up has only waited, and ends there.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        try:
            _be_the_child(level, calls, number, writer)
        finally:
            os._exit(1)
    os.close(writer)
    said, in_time = _read(reader)
    os.close(reader)
    if not in_time:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    rows = [json.loads(line) for line in said.decode().splitlines()]
    outcomes = [row for row in rows if isinstance(row, str)] + ([] if in_time else [WAITS])
    failure = next((row for row in rows if isinstance(row, list)), [])
    if not failure and in_time and status:
        failure = [signal.Signals(status & 0x7F).name if status & 0x7F else f"status {status >> 8}", "the process died"]
    return outcomes, failure


def _be_the_child(level, calls, number, writer):
    _write("/proc/self/oom_score_adj", "1000")  # whoever goes when memory is short, it is not the agent
    os.setpgid(0, 0)
    log = -1 if number is None else os.open("/dev/kmsg", os.O_WRONLY)
    performer = _performer(level)
    for position, call in enumerate(calls):
        if number is not None:
            os.write(log, f"{MARK} {number}.{position} {call['do']} on {call.get('on', '')}".encode())
        try:
            said = performer.do(call)
        except BaseException as error:
            said = [type(error).__name__, "".join(traceback.format_exception(error))[-2000:]]
        os.write(writer, json.dumps(said).encode() + b"\n")
        if isinstance(said, list):
            break
    os._exit(0)


def _performer(level):
    return Performer() if level == IOCTLS else Invoker()


def _read(reader):
    """All that a child says, and whether it came to its end in time."""
    said, deadline = b"", time.monotonic() + _SEQUENCE_S
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([reader], [], [], left)[0]:
            break
        piece = os.read(reader, 1 << 16)
        if not piece:
            return said, True
        said += piece
    return said, False


def _write(path, text):
    with open(path, "w") as file:
        file.write(text)
