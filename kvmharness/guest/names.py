"""All names that guest sources may use, with their values."""

from functools import cache

from kvmharness.guest import layout, loopcontext
from kvmharness.vendors.known import VENDORS


@cache
def named_values() -> dict[str, int]:
    """Guest layout, the vendors' architecture and regions, and the run loop's context."""
    names = layout.symbols() | loopcontext.symbols()
    for vendor in VENDORS:
        names |= vendor.symbols()
    return names
