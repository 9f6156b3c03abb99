"""One holder at a time for what a file stands for: the kernel's record locks, gone with whoever dies.

Source: POSIX, lockf(). Such a lock belongs to a process, not to a thread or an fd, and closing any fd of the file
gives it back; so what this process holds is also noted here, and such a file is never opened a second time.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

_POLL_S = 0.1
_REPORT_S = 1.0

_guard = Lock()
_ours: set[Path] = set()


@contextmanager
def locked(path: Path, waiting: Callable[[float], None]) -> Iterator[int]:
    """Holds the lock of *path*, once nobody else does; the file is there as long as somebody holds it.

    Args:
        path: of the lock file, whose content does not matter; its folder exists.
        waiting: told at first and then about once a second how long this has waited, in seconds. A signal's handler
            may end the wait by an exception, as Ctrl-C does.

    Yields:
        the file's fd, to be written to and not to be closed.

    Raises:
        OSError: the file cannot be made or locked.
    """
    began, reported = time.monotonic(), -_REPORT_S
    while (number := _take(path)) is None:
        waited = time.monotonic() - began
        if waited - reported >= _REPORT_S:
            reported = waited
            waiting(waited)
        time.sleep(_POLL_S)
    try:
        yield number
    finally:
        _give_back(path, number)


@contextmanager
def if_free(path: Path) -> Iterator[bool]:
    """Holds the lock of *path* if nobody else does, and says whether; never waits.

    Raises:
        OSError: as :func:`locked`.
    """
    number = _take(path)
    try:
        yield number is not None
    finally:
        if number is not None:
            _give_back(path, number)


def _take(path: Path) -> int | None:
    """The fd that holds the lock; None when somebody else has it."""
    with _guard:
        if path in _ours:
            return None
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.lockf(number, os.F_TLOCK, 0)
            # Whoever had it before may have deleted the file: the lock of what is not there keeps nobody out.
            if os.path.samestat(os.fstat(number), path.stat()):
                _ours.add(path)
                return number
        except (BlockingIOError, PermissionError, FileNotFoundError):  # EAGAIN or EACCES: somebody holds it
            pass
        except BaseException:
            os.close(number)
            raise
        os.close(number)
        return None


def _give_back(path: Path, number: int) -> None:
    """Deletes the file while it is still locked, so that nobody can have locked it under its name since."""
    with _guard:
        with suppress(OSError):
            path.unlink()
        os.close(number)
        _ours.discard(path)
