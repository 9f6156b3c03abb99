"""Files written whole or not at all."""

import errno
import os
import stat
import sys
from contextlib import suppress

from kvmharness.errors import ExitCode, KvmHarnessError


class WriteError(KvmHarnessError):
    """A result could not be written; nothing half-written is left under its name."""

    exit_code = ExitCode.LOST


def is_plain(path: str | os.PathLike[str]) -> bool:
    """Whether :func:`write_whole` puts a file there; otherwise it writes to what is there, a device or a stream."""
    return _stream(path) is None and _is_regular_or_new(path)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Refuses a name that :func:`write_whole` could not write now, by trying; nothing is left of that.

    A pipe with a name is refused: who reads it must not see it opened and closed, and who does not would be waited for.

    Raises:
        WriteError: with the system's reason and what to do.
    """
    try:
        if (stream := _stream(path)) is not None:
            os.write(stream, b"")
        elif _is_regular_or_new(path):
            temporary = _temporary(_target(path))
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            os.unlink(temporary)
        elif stat.S_ISFIFO(os.stat(path).st_mode) and os.path.exists(os.path.realpath(path)):
            raise WriteError(
                f"cannot write {os.fspath(path)}: it is a pipe, which may have no reader",
                "Name a file, or let the shell make the pipe: >(COMMAND).",
            )
        else:
            os.close(_opened(path))
    except OSError as error:
        raise _cannot(path, error) from None


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write *data* under the name *path* by a temporary file beside it, fsync and rename.

    A name that is a device, a pipe, or our own standard output or error (``/dev/stdout``, or the file that the shell
    sends it to) is written to as it is: renaming would replace it.

    Raises:
        WriteError: with the system's reason and what to do.
        BrokenPipeError: it is our standard output, which nobody reads any more.
    """
    try:
        if (stream := _stream(path)) is not None:
            for each in filter(None, (sys.stdout, sys.stderr)):
                each.flush()
            _write_all(stream, data)
        elif _is_regular_or_new(path):
            _replace(_target(path), data)
        else:
            number = _opened(path)
            try:
                _write_all(number, data)
            finally:
                os.close(number)
    except BrokenPipeError as error:
        if _stream(path) is not None:
            raise
        raise _cannot(path, error) from None
    except OSError as error:
        raise _cannot(path, error) from None


def _replace(target: str, data: bytes) -> None:
    temporary = _temporary(target)
    number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            _write_all(number, data)
            os.fsync(number)
        finally:
            os.close(number)
        os.replace(temporary, target)
    except BaseException:  # Ctrl-C too: no part file stays behind
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _target(path: str | os.PathLike[str]) -> str:
    """The file that a name leads to. Raises: IsADirectoryError, it can only be a folder's."""
    if not os.path.basename(path) or os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return os.path.realpath(path)


def _temporary(target: str) -> str:
    return f"{target}.{os.getpid()}.part"


def _opened(path: str | os.PathLike[str]) -> int:
    """The fd of a device or a pipe, which is written to as it is. Raises: OSError, also for one that takes nothing."""
    if stat.S_ISBLK(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is a disk")
    number = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)  # waits for nobody
    try:
        os.write(number, b"")
        os.set_blocking(number, True)
    except BaseException:
        os.close(number)
        raise
    return number


def _stream(path: str | os.PathLike[str]) -> int | None:
    """Which of our own output streams a name stands for; None for another thing."""
    for number in (1, 2):
        with suppress(OSError, ValueError):  # it is closed, or there is nothing of that name
            if os.path.samestat(os.stat(path), os.fstat(number)):
                return number
    return None


def _cannot(path: str | os.PathLike[str], error: OSError) -> WriteError:
    reason = errno.errorcode.get(error.errno or 0, "?")
    hint = {
        errno.ENOSPC: "free space there, or name another file system",
        errno.EDQUOT: "your disk quota is used up; name another file system",
        errno.EFBIG: "raise the limit of files' sizes: `ulimit -f`",
        errno.EMFILE: "raise the limit of open files: `ulimit -n`",
        errno.ENOENT: "make the folder first",
        errno.EISDIR: "name a file, not a folder",
    }.get(error.errno or 0, "name a file that you may write")
    return WriteError(f"cannot write {os.fspath(path) or 'a file without a name'}: {error.strerror} ({reason})", hint)


def _is_regular_or_new(path: str | os.PathLike[str]) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode) or os.path.isdir(path)
    except FileNotFoundError:
        return True


def _write_all(number: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(number, rest) :]
