"""The one reader of what comes from outside: a mail, a record, a kernel and the rest may be anything until it is read.

A file is regular, no larger than its kind may be, and nested no deeper; whatever is wrong with it is one usage error
that names it. A FIFO, a device, a folder or a socket is refused before it could block or never end.
"""

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kvmharness.errors import UsageError

STANDARD_INPUT = "standard input"
_MIB = 1 << 20


class ReadError(UsageError):
    """A file cannot be read, or is not what it is taken for; nothing of it was used.

    Attributes:
        reason: the message without the file's name.
    """

    def __init__(self, message: str, hint: str, reason: str = "") -> None:
        super().__init__(message, hint)
        self.reason = reason or message


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is read as.

    Attributes:
        name: for messages; empty where the file's name says it.
        most_bytes: how large it may be; what is packed, also unpacked.
        hint: what to do with a file that cannot be read as this.
        deepest: how deep its brackets, tables or parts may be nested; 0 where it has none.
    """

    name: str
    most_bytes: int
    hint: str = "Check the file's name, and who may read it."
    deepest: int = 0

    @property
    def most(self) -> str:
        """Its size limit, for messages."""
        return f"{self.most_bytes // _MIB} MiB" if self.most_bytes >= _MIB else f"{self.most_bytes} bytes"


MAILS = Kind("", 64 * _MIB, "A series is an mbox, `git format-patch` files or diffs; `-` reads a pipe.", deepest=32)
QUILT_SERIES = Kind("quilt series", _MIB, "It names a patch a line, relative to its folder.")
TOML = Kind("", _MIB, "A series says what it claims in TOML; see series.toml of a shipped one.", deepest=32)
RECORD = Kind(
    "record",
    512 * _MIB,
    "give a file that `run --json` or `validate --json` wrote; if it was cut off or edited, run again",
)
LITMUS = Kind(
    "litmus test",
    _MIB,
    "A file has a row a line, such as 'L1 read p0'; `kvmharness litmus --list` names the tests that there are.",
)
ASM = Kind("guest program", _MIB, "Is this an .asm file?")
UNIT_TESTS = Kind("list of unit tests", _MIB, "Name a built tree of kvm-unit-tests.")
UNIT_TEST_IMAGE = Kind("image", 64 * _MIB, "In the tree of kvm-unit-tests, run make.")
MODULE = Kind("kernel module", 1024 * _MIB, "Name the folder of a built kernel's modules.")
KERNEL = Kind("kernel", 1024 * _MIB, "Name a bzImage.")
PROGRAM = Kind("program", 1024 * _MIB, "Name the file of a program.")
TARBALL = Kind("tarball", 8192 * _MIB, "Name a Linux source tree, or a tarball of one as kernel.org has it.")
SOURCE = Kind("", 64 * _MIB, "Is this a kernel's source tree?")


def read(path: str | os.PathLike[str], kind: Kind) -> bytes:
    """All of a file.

    Raises:
        ReadError: there is none, it is not a regular file, may not be read, or is larger than its kind may be.
    """
    with opened(path, kind) as file:
        return limited(os.fspath(path), file.read, kind)


def read_text(path: str | os.PathLike[str], kind: Kind) -> str:
    """All of a file as text. Raises: ReadError, also for what is not UTF-8 or holds NUL."""
    return decoded(os.fspath(path), read(path, kind), kind)


def read_standard_input(kind: Kind) -> bytes:
    """All of the standard input, which may be a pipe. Raises: ReadError, it is closed, a folder, or too large."""
    if sys.stdin is None:
        raise ReadError("there is no standard input to read from", kind.hint)
    with _system_errors(STANDARD_INPUT, kind):
        return limited(STANDARD_INPUT, sys.stdin.buffer.read, kind)


@contextmanager
def opened(path: str | os.PathLike[str], kind: Kind) -> Iterator[BinaryIO]:
    """A file, open for reading, for who wants only a part of it. Raises: ReadError, as :func:`read`."""
    name = os.fspath(path)
    with _system_errors(name, kind):
        try:
            _refuse(name, kind, os.stat(name))  # a device may do something when it is opened, a socket cannot be
            number = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except ValueError:  # NUL in it, or a character that no file's name has
            raise fault(repr(name), kind, "no file can have this name") from None
    with os.fdopen(number, "rb") as file, _system_errors(name, kind):
        _refuse(name, kind, os.fstat(number))  # nobody else's file has come into its place meanwhile
        yield file


def check(path: str | os.PathLike[str], kind: Kind) -> None:
    """Refuses what cannot be read as *kind*, without reading it. Raises: ReadError, as :func:`read`."""
    with opened(path, kind):
        pass


def listed(folder: Path) -> list[Path]:
    """What is in a folder, by name. Raises: ReadError, it is none, or may not be read."""
    with _system_errors(str(folder), Kind("folder", 0)):
        return sorted(folder.iterdir())


def limited(name: str, read_bytes: Callable[[int], bytes], kind: Kind) -> bytes:
    """All that *read_bytes* gives, asked for so many bytes. Raises: ReadError, it is more than the kind may have."""
    content = bytearray()
    try:
        # In pieces: who is asked for as much as there may be makes room for all of that first.
        while piece := read_bytes(min(_MIB, kind.most_bytes + 1 - len(content))):
            content += piece
        found = bytes(content)
    except MemoryError:
        raise fault(name, kind, "it does not fit into this machine's memory") from None
    if len(found) > kind.most_bytes:
        raise fault(name, kind, f"it is larger than {kind.most}, which is the limit")
    return found


def decoded(name: str, content: bytes, kind: Kind) -> str:
    """Bytes as text. Raises: ReadError, naming the line of the first that is none."""
    if b"\0" in content:
        raise fault(name, kind, f"line {content[: content.index(0)].count(10) + 1} holds NUL, so it is no text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(10) + 1
        raise fault(name, kind, f"line {line} is not text in UTF-8 (byte {content[error.start]:#04x})") from None


def fault(name: str, kind: Kind, what: str, hint: str = "") -> ReadError:
    """The error for a file that is read as *kind*."""
    called = f"{kind.name} {name}" if kind.name else name
    return ReadError(f"cannot read {called}: {what}", hint or kind.hint, what)


def too_deep(name: str, kind: Kind) -> ReadError:
    """The error for a file that is nested deeper than its kind may be."""
    return fault(name, kind, f"it is nested more than {kind.deepest} deep, which is the limit")


@contextmanager
def _system_errors(name: str, kind: Kind) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = errno.errorcode.get(error.errno or 0, "?")
        raise fault(name, kind, f"{error.strerror or error} ({reason})") from None


def _refuse(name: str, kind: Kind, facts: os.stat_result) -> None:
    mode = facts.st_mode
    if not stat.S_ISREG(mode):
        kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
        what = next((what for is_one, what in kinds if is_one(mode)), "a device")
        raise fault(name, kind, f"it is {what}, not a regular file")
    if facts.st_size > kind.most_bytes:
        raise fault(name, kind, f"it is larger than {kind.most}, which is the limit")
