"""Reads a litmus test from a file."""

from pathlib import Path

from kvmharness.errors import UsageError
from kvmharness.litmus.program import Program, parse

_MOST_BYTES = 1 << 20


def read_program(name: str) -> Program:
    """The test in a file.

    Raises:
        UsageError: the file cannot be read, or holds something else; names the line.
    """
    path = Path(name)
    hint = "A file has a row a line, such as 'L1 read p0'; `kvmharness litmus --list` names the tests that there are."
    try:
        if not path.is_file():
            raise UsageError(f"{name} is no file", hint)
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"{name} is larger than a litmus test may be ({_MOST_BYTES} bytes)", hint)
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{name} cannot be read: {error}", hint) from None
    try:
        return parse(text, path.stem)
    except UsageError as error:
        raise UsageError(f"{name}: {error}", error.hint or hint) from None
