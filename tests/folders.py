"""Where the data of tests lies."""

from pathlib import Path

_DATA = Path(__file__).resolve().parent / "data"

FAULTS = _DATA / "series"
"""Series with a fault each, a folder each."""

MAILS = _DATA / "mbox"
