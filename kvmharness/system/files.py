"""Files written whole or not at all."""

import errno
import os
import stat
from collections.abc import Callable

from kvmharness.errors import ExitCode, KvmHarnessError


class WriteError(KvmHarnessError):
    """A result could not be written; nothing half-written is left under its name."""

    exit_code = ExitCode.LOST


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write *data* under the name *path* by a temporary file beside it, fsync and rename.

    A name that is a device or a pipe (``/dev/stdout``) is written to as it is: renaming would replace it.

    Raises:
        WriteError: with the system's reason and what to do.
    """
    target = os.path.realpath(path)
    temporary = f"{target}.{os.getpid()}.part"
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
        reason = errno.errorcode.get(error.errno or 0, "?")
        hint = {
            errno.ENOSPC: "free space there, or name another file system",
            errno.EDQUOT: "your disk quota is used up; name another file system",
            errno.ENOENT: "make the folder first",
        }.get(error.errno or 0, "name a file that you may write")
        raise WriteError(f"cannot write {os.fspath(path)}: {error.strerror} ({reason})", hint) from None


def _is_regular_or_new(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode) or os.path.isdir(path)
    except FileNotFoundError:
        return True


def _write_all(write: Callable[[memoryview], int | None], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[write(rest) or 0 :]
