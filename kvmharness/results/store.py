"""Records in files: written whole or not at all (temporary name, fsync, rename), or growing as a journal."""

import os
from collections.abc import Callable
from typing import TypeVar

from kvmharness.results.journal import TEST
from kvmharness.results.jsonread import ShapeError, an_object, parse
from kvmharness.results.record import Record, RecordError
from kvmharness.system.files import write_whole

JOURNAL = b'{"journal": '  # how a record begins that is still growing: see kvmharness.results.journal
_HINT = "give a file that `run --json` or `validate --json` wrote; if it was cut off or edited, run again"
CUT_SHORT = "the run was cut short"

T = TypeVar("T")


def load(path: str | os.PathLike[str]) -> Record:
    """Read the record in the file *path*.

    Raises:
        RecordError: as :func:`read_with`.
    """
    return read_with(from_bytes, path)


def read_with(read: Callable[[bytes], T], path: str | os.PathLike[str]) -> T:
    """What *read* makes of the file *path*.

    Raises:
        RecordError: the file cannot be read, is not JSON (cut off, say), or is not what this version knows.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            return read(file.read())
    except OSError as error:
        raise RecordError(
            f"cannot read record {name}: {error.strerror}", "check the name and its permissions"
        ) from None
    except (RecordError, ShapeError) as error:
        raise RecordError(f"cannot read record {name}: {error}", error.hint or _HINT) from None


def from_bytes(data: bytes) -> Record:
    """A record, or what a journal holds of one; of its last line there may be a part only.

    Raises:
        RecordError, ShapeError: it is neither.
    """
    if not data.startswith(JOURNAL):
        return Record.from_json(parse(data))
    first, *lines = data.split(b"\n")[:-1] or [data]
    document = an_object(an_object(parse(first), "journal")["journal"], "journal")
    rows = [an_object(parse(line), "journal") for line in lines]
    grown = {
        "results": [row for row in rows if TEST not in row],
        "tests": [row[TEST] for row in rows if TEST in row],
        "partial": CUT_SHORT,
    }
    return Record.from_json(document | grown)


def save(record: Record, path: str | os.PathLike[str]) -> None:
    """Write *record* to the file *path*: afterwards the name holds either what it held before or the whole record.

    Raises:
        WriteError: the file system is full, the folder is missing or not writable, ...
        RecordError: the record contradicts itself.
    """
    record.check()
    write_whole(path, record.text().encode())
