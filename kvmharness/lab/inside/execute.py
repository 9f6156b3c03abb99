"""Run a program inside the emulated host: its output as it comes, its exit status, a time limit."""

import os
import select
import signal
import time
from collections.abc import Callable

_CHUNK_BYTES = 1 << 16
# What a program finds; no more than that, so that a run does not depend on who started it.
ENVIRONMENT = {"PATH": "/bin:/sbin", "HOME": "/root", "TERM": "dumb", "LC_ALL": "C"}


def execute(step: dict[str, object], output: Callable[[str], None]) -> dict[str, object]:
    """Run ``step["argv"]`` to its end.

    Args:
        step: ``argv``; optional ``timeout_s`` (seconds of the emulated clock), ``env`` (added to the environment).
        output: takes each piece of the program's stdout and stderr, in the order in which they were written.

    Returns:
        ``status`` (exit status, or None), ``signal`` (the name of the signal that ended it, or None), ``timed_out``.

    Raises:
        OSError: the program could not be started.
    """
    argv = [str(word) for word in step["argv"]]  # type: ignore[attr-defined]
    timeout_s = step.get("timeout_s")
    deadline = None if timeout_s is None else time.monotonic() + float(timeout_s)  # type: ignore[arg-type]
    reader, writer = os.pipe()
    try:
        redirect = [(os.POSIX_SPAWN_DUP2, writer, 1), (os.POSIX_SPAWN_DUP2, writer, 2)]
        environment = {**ENVIRONMENT, **(step.get("env") or {})}  # type: ignore[dict-item]
        # A group of its own, so that a time-out also ends what the program has started.
        pid = os.posix_spawn(argv[0], argv, environment, file_actions=redirect, setpgroup=0)
    except OSError as error:
        os.close(reader)
        raise OSError(error.errno, f"cannot start {argv[0]}: {error.strerror}") from None
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
    return {
        "status": code if code >= 0 else None,
        "signal": signal.Signals(-code).name if code < 0 else None,
        "timed_out": timed_out,
    }


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
