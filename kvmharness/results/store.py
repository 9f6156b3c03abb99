"""Records in files: written whole or not at all (temporary name, fsync, rename), or growing as a journal."""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from kvmharness.results.journal import TEST
from kvmharness.results.jsonread import ShapeError, an_object, parse
from kvmharness.results.record import Record, RecordError
from kvmharness.system.files import write_whole
from kvmharness.system.reading import RECORD, fault
from kvmharness.system.reading import read as read_file

JOURNAL = b'{"journal": '  # how a record begins that is still growing: see kvmharness.results.journal
CUT_SHORT = "the run was cut short"

T = TypeVar("T")


def load(path: str | os.PathLike[str]) -> Record:
    """Read the record in the file *path*.

    Raises:
        ReadError: as :func:`read_with`.
    """
    return read_with(from_bytes, path)


def read_with(read: Callable[[bytes], T], path: str | os.PathLike[str]) -> T:
    """What *read* makes of the file *path*.

    Raises:
        ReadError: the file cannot be read, is not JSON (cut off, say), or is not what this version knows.
    """
    content = read_file(path, RECORD)
    try:
        with uncollected():
            return read(content)
    except (RecordError, ShapeError) as error:
        raise fault(os.fspath(path), RECORD, str(error), error.hint) from None


@contextmanager
def uncollected() -> Iterator[None]:
    """For what makes a million objects of a record and no circles: to look for these takes a quarter of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


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
