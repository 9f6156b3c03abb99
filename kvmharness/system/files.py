"""Files written whole or not at all."""

import errno
import os
import stat
from collections.abc import Callable

from kvmharness.errors import ExitCode, KvmHarnessError


class WriteError(KvmHarnessError):
    """A result could not be written; nothing half-written is left under its name."""

    exit_code = ExitCode.LOST


def check_writable(path: str | os.PathLike[str]) -> None:
    """Refuses a name that :func:`write_whole` could not write now, by trying; nothing is left of that.

    Raises:
        WriteError: with the system's reason and what to do.
    """
    target = os.path.realpath(path)
    try:
        if not _is_regular_or_new(target):
            if not os.access(target, os.W_OK):  # opening it could mean something to who is at its other end
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        if os.path.isdir(target):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        temporary = _temporary(target)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.unlink(temporary)
    except OSError as error:
        raise _cannot(path, error) from None


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write *data* under the name *path* by a temporary file beside it, fsync and rename.

    A name that is a device or a pipe (``/dev/stdout``) is written to as it is: renaming would replace it.

    Raises:
        WriteError: with the system's reason and what to do.
    """
    target = os.path.realpath(path)
    temporary = _temporary(target)
    try:
        if not _is_regular_or_new(target):
            with open(target, "wb", buffering=0) as file:
                _write_all(file.write, data)
            return
        try:
            with open(temporary, "xb", buffering=0) as file:
                _write_all(file.write, data)
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:  # Ctrl-C too: no part file stays behind
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise _cannot(path, error) from None


def _temporary(target: str) -> str:
    return f"{target}.{os.getpid()}.part"


def _cannot(path: str | os.PathLike[str], error: OSError) -> WriteError:
    reason = errno.errorcode.get(error.errno or 0, "?")
    hint = {
        errno.ENOSPC: "free space there, or name another file system",
        errno.EDQUOT: "your disk quota is used up; name another file system",
        errno.ENOENT: "make the folder first",
        errno.EISDIR: "name a file, not a folder",
    }.get(error.errno or 0, "name a file that you may write")
    return WriteError(f"cannot write {os.fspath(path)}: {error.strerror} ({reason})", hint)


def _is_regular_or_new(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode) or os.path.isdir(path)
    except FileNotFoundError:
        return True


def _write_all(write: Callable[[memoryview], int | None], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[write(rest) or 0 :]
