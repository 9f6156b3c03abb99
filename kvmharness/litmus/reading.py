"""Reads a litmus test from a file."""

from pathlib import Path

from kvmharness.errors import UsageError
from kvmharness.litmus.program import Program, parse
from kvmharness.system.reading import LITMUS, read_text


def read_program(name: str) -> Program:
    """The test in a file.

    Raises:
        UsageError: the file cannot be read, or holds something else; names the line.
    """
    text = read_text(name, LITMUS)
    try:
        return parse(text, Path(name).stem)
    except UsageError as error:
        raise UsageError(f"{name}: {error}", error.hint or LITMUS.hint) from None
