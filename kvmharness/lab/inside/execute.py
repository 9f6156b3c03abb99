"""Runs a program: its output as it comes, its exit status, a time limit."""

import os
import select
import signal
import time
from collections.abc import Callable

from kvmharness.lab.steps import Exec, Exited

_CHUNK_BYTES = 1 << 16
# What a program finds; no more than that, so that a run does not depend on who started it.
ENVIRONMENT = {"PATH": "/bin:/sbin", "HOME": "/root", "TERM": "dumb", "LC_ALL": "C"}


def execute(step: Exec, output: Callable[[str], None]) -> Exited:
    """Runs a program to its end.

    Args:
        step: what to run.
        output: takes each piece of the program's stdout and stderr, in the order in which they were written.

    Raises:
        OSError: the program could not be started.
    """
    program = step.argv[0]
    deadline = None if step.timeout_s is None else time.monotonic() + step.timeout_s
    reader, writer = os.pipe()
    try:
        redirect: list[tuple[object, ...]] = [(os.POSIX_SPAWN_OPEN, 0, step.stdin, os.O_RDONLY, 0)]
        redirect += [(os.POSIX_SPAWN_DUP2, writer, 1), (os.POSIX_SPAWN_DUP2, writer, 2)]
        # A group of its own, so that a time-out also ends what the program has started.
        pid = os.posix_spawn(program, step.argv, {**ENVIRONMENT, **step.env}, file_actions=redirect, setpgroup=0)
    except OSError as error:
        os.close(reader)
        raise OSError(error.errno, f"cannot start {program}: {error.strerror}") from None
    finally:
        os.close(writer)
    timed_out = False
    try:
        timed_out = not _copy(reader, output, deadline)
    finally:
        os.close(reader)
        if timed_out:
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return Exited(code, None, timed_out) if code >= 0 else Exited(None, signal.Signals(-code).name, timed_out)


def _copy(reader: int, output: Callable[[str], None], deadline: float | None) -> bool:
    """Pass on what comes until the end of the pipe; False when the deadline comes first."""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    while True:
        left_ms = None if deadline is None else max(0, (deadline - time.monotonic()) * 1000)
        if not poll.poll(left_ms):
            return False
        piece = os.read(reader, _CHUNK_BYTES)
        if not piece:
            return True
        output(piece.decode(errors="backslashreplace"))
