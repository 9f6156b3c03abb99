"""Other people's programs: found or asked for by package, and run so that an error ends in what they said."""

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from kvmharness.errors import HostRequirementError, KvmHarnessError
from kvmharness.system import packages

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# How programs say it: with the system's words, and xorriso with its own.
_FULL_DISK_WORDS = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), "exceeds free space on media")


class MissingToolError(HostRequirementError):
    """Programs or files of other packages are not installed."""

    def __init__(self, *names: str) -> None:
        command = packages.install_command(map(packages.package_of, names))
        super().__init__(f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not installed", command)


class ToolError(KvmHarnessError):
    """Another program failed; the message ends with what it said."""


class DiskFullError(KvmHarnessError):
    """There is no room left where something had to be written."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(
            f"no space left on the disk that holds {path}",
            "free some, or set XDG_CACHE_HOME and TMPDIR to folders on a larger disk",
        )


def find(name: str) -> str:
    """The full path of a program, or of a file of the table of packages.

    Raises:
        MissingToolError: it is not installed; names the package.
    """
    path = packages.place(name)
    if path is None:
        raise MissingToolError(name)
    return path


def run(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    writes: Path | None = None,
) -> bytes:
    """Runs a short command to its end and returns its standard output; *writes* is where its files go, for messages.

    Raises:
        MissingToolError, ToolError, DiskFullError.
    """
    command = [*die_with_parent(), find(argv[0]), *argv[1:]]
    environment = {**os.environ, "LC_ALL": "C", **(env or {})}
    done = subprocess.run(command, cwd=cwd, env=environment, input=stdin, capture_output=True, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip() or done.stdout.decode(errors="replace").strip()
        if tells_full_disk(said):
            raise DiskFullError(writes or cwd or tempfile.gettempdir())
        tail = "\n".join(said.splitlines()[-12:])
        raise ToolError(f"{' '.join(argv[:4])} ended with status {done.returncode}:\n{tail}")
    return done.stdout


def tells_full_disk(said: str) -> bool:
    """Whether a program's own words are that the disk is full."""
    return any(words in said for words in _FULL_DISK_WORDS)


def die_with_parent(told: str = "KILL") -> list[str]:
    """A prefix for a long command: the kernel ends it when we are killed without a chance to do so ourselves.

    Args:
        told: the signal that it gets then.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", told] if setpriv else []


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns the errno of a full disk into :class:`DiskFullError` about *path*."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise DiskFullError(path) from None
        raise


Progress = Callable[[str], None]


def silent(message: str) -> None:
    """A progress function that says nothing."""
