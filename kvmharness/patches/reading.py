"""Files and streams that others wrote, read up to a size."""

import sys
from pathlib import Path

from kvmharness.patches.diff import PatchError
from kvmharness.patches.mbox import limited


def read_file(path: Path) -> bytes:
    """What stands in a file or comes out of a pipe. Raises: PatchError, it cannot be read, or is too large."""
    try:
        with path.open("rb") as file:
            return limited(str(path), file.read)
    except OSError as e:
        raise PatchError(f"cannot read {path}: {e.strerror} (errno {e.errno})") from e


def read_standard_input() -> bytes:
    """All of the standard input. Raises: PatchError, it is closed, cannot be read, or is too large."""
    if sys.stdin is None:
        raise PatchError(
            "there is no standard input to read the series from",
            "Write b4 am -o - MESSAGE-ID | kvmharness validate -, for example.",
        )
    try:
        return limited("standard input", sys.stdin.buffer.read)
    except OSError as e:
        raise PatchError(f"cannot read the standard input: {e.strerror} (errno {e.errno})") from e
