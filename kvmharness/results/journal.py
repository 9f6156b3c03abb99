"""A record while it grows: every result is in a file as soon as it has come, so that nothing takes it away again.

The first line is the record without results, each further one a result, or a test under "test".
:func:`kvmharness.results.store.load` reads such a file as a record that was cut short; a run that goes to its end
leaves none behind.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Self

from kvmharness.errors import UsageError
from kvmharness.results.record import CellResult, Record
from kvmharness.results.tests import TestResult
from kvmharness.system.files import write_whole

SUFFIX = ".part"
CONSOLE_SUFFIX = ".console"
TEST = "test"


class Journal:
    """The results of one run; a context manager that closes the file.

    Args:
        record: the file that the whole record will be written to, which the journal stands beside; None for no journal.

    Attributes:
        path: of the journal.
        console: of the file with consoles' logs, which is there only if one was kept.
        cut_short: the run did not go to its end, although others beside it did: the journal stays.
    """

    def __init__(self, record: Path | None = None) -> None:
        self.path = record and record.with_name(record.name + SUFFIX)
        self.console = record and record.with_name(record.name + CONSOLE_SUFFIX)
        self.cut_short = False
        self._file: BinaryIO | None = None
        self._consoles = b""

    def begin(self, header: Record) -> None:
        """Begins the file, if it has not begun; of a journal that an earlier run left there nothing stays.

        Args:
            header: the record, and the results that it has already.

        Raises:
            UsageError: it cannot be written.
        """
        if self.path is None or self._file is not None:
            return
        first = {"journal": replace(header, results=(), tests=()).to_json()}
        lines = [first, *(result.to_json() for result in header.results), *map(_test, header.tests)]
        write_whole(self.path, b"".join(_line(line) for line in lines))
        try:
            self._file = self.path.open("ab")
        except OSError as e:
            raise UsageError(f"cannot write {self.path}: {e.strerror}", "Name another file.") from e

    def add(self, result: CellResult) -> None:
        """Writes a result."""
        if self._file is not None:
            self._file.write(_line(result.to_json()))
            self._file.flush()

    def add_test(self, test: TestResult) -> None:
        """Writes a test of a battery."""
        if self._file is not None:
            self._file.write(_line(_test(test)))
            self._file.flush()

    def keep(self, title: str, console: Sequence[str]) -> None:
        """Writes a console's log beside the record, under a title."""
        if self.console is not None and console:
            text = "\n".join([f"=== {title}", *console, ""])
            self._consoles += text.encode(errors="backslashreplace")
            write_whole(self.console, self._consoles)

    @property
    def keeps_console(self) -> bool:
        """Whether there was a console's log to keep."""
        return bool(self._consoles)

    def done(self) -> None:
        """The run went to its end and its record is written: the journal goes."""
        self.close()
        if self.path is not None and not self.cut_short:
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Ends the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _test(test: TestResult) -> dict[str, object]:
    return {TEST: test.to_json()}


def _line(document: object) -> bytes:
    return json.dumps(document, allow_nan=False).encode() + b"\n"
