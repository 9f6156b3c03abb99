"""Where the data of tests lies, and folders that tests write."""

from pathlib import Path

_DATA = Path(__file__).resolve().parent / "data"

FAULTS = _DATA / "series"
"""Rivals of a shipped series, which stand in for it with a fault each, a folder each."""

SEEDED = _DATA / "faults"
"""Series of their own with a fault each, for Linux 6.1, a folder each; each message ends with what is wrong."""

LATENT = _DATA / "latent"
"""The same with faults that the debug kernel alone sees, before anything comes of them."""

HARMLESS = _DATA / "harmless"
"""Series that break nothing, for Linux 6.1, a folder each."""

MAILS = _DATA / "mbox"

LITMUS = _DATA / "litmus"
"""Litmus tests that fail on released kernels."""

KERNEL_LOGS = _DATA / "kernel-logs"
"""What Linux 6.1 printed in an emulated host, a file each."""

LITMUS_FAULTS = _DATA / "litmus-faults"
"""Faults for the named litmus tests, for Linux 6.1, several in a file."""

SUITE_FAULTS = _DATA / "suite-faults"
"""Series with a fault each that a suite alone sees, for Linux 6.1, a folder each."""


def written(folder, files):
    """The folder, with these files in it: texts by path."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder
