"""All names that guest sources may use, with their values."""

from functools import cache

from kvmharness.guest import layout, loopcontext
from kvmharness.vendors.known import VENDORS
from kvmharness.x86.registers import Rflags
from kvmharness.x86.segments import DATA_SELECTOR, USER_CODE_SELECTOR, USER_DATA_SELECTOR

_ARCHITECTURE = {
    "RFLAGS_FIXED": int(Rflags.FIXED),
    "DATA_SELECTOR": DATA_SELECTOR,
    "USER_CODE_SELECTOR": USER_CODE_SELECTOR,
    "USER_DATA_SELECTOR": USER_DATA_SELECTOR,
    "VECTOR_UD": 6,
}


@cache
def named_values() -> dict[str, int]:
    """Guest layout, the vendors' architecture and regions, and the run loop's context."""
    names = layout.symbols() | loopcontext.symbols() | _ARCHITECTURE
    for vendor in VENDORS:
        names |= vendor.symbols()
    return names
