"""Numbers at the borders of what they are stored in, and of what the architecture makes of them."""

from kvmharness.abi.constants import Cap
from kvmharness.x86.msr import Msr

PAGE, BIG_PAGE = 0x1000, 0x20_0000

WORDS = (0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
# What does not fit an argument of ioctl(2) at all.
BEYOND = (-1, -(1 << 63), 1 << 64, 10**30)

# Aligned and not; the last pages below 4 GiB, of 36, 46 and 52 bits, of the canonical half and of all.
_ENDS = (1 << 32, 1 << 36, 1 << 46, 1 << 47, 1 << 52, 1 << 63, 1 << 64)
GPAS = (0, 1, PAGE - 1, PAGE, PAGE + 1, 0x10_0000, BIG_PAGE, BIG_PAGE + PAGE, 0xFEE0_0000, *(e - PAGE for e in _ENDS))
# Either little, or more than any host has: what is between would be a test of how it runs out of memory.
SIZES = (0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 0x10_0000, BIG_PAGE + PAGE, 1 << 30, *(e - PAGE for e in _ENDS))
COUNTS = (0, 1, 2, 255, 256, 257, 4095, 4096, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
SLOTS = (0, 1, 2, 0x1FF, 0x7FFE, 0x7FFF, 0x8000, 0x1_0000, 0x1_0001, 0x2_0000, 0xFFFF_FFFF)
# hvas: the performer's memory, and what is none. Never one of the interpreter's own, which the kernel would write to.
ADDRESSES = ("memory", "memory+0x1", "memory+0x1000", "memory+0xff000", "read-only", "unmapped", "kernel", 0, 1, PAGE)
ADDRESSES += ((1 << 47) - PAGE, (1 << 63) - 1, 1 << 63, (1 << 64) - PAGE, (1 << 64) - 1)
FDS = ("event", "other event", "null", -1, 0x7FFF_FFFF, 1 << 20)

_BITS = tuple(1 << bit for bit in range(64))
_CR0 = (0x60000010, 0x10, 0x11, 0x8000_0011, 0x8001_0033, 0x8000_0000, 0x2000_0000, 0xFFFF_FFFF, 1 << 32)
_CR4 = (0, 0x10, 0x20, 0x2020, 0x2_0020, 0x37_2220, 0x1000, 0xFFFF_FFFF, 1 << 32)
_EFER = (0, 1, 0x100, 0x400, 0x500, 0xD01, 0x1500, 0xFFFF)
_MSRS = (*map(int, Msr), 0, 1, 0x800, 0x8FF, 0xC0, 0x345, 0x400, 0x40000000, 0x40000118, 0x4B564D00, 0x4B564D01)
_MSRS += (0x4B564D02, 0x4B564D03, 0x4B564D04, 0x4B564D05, 0xC0010117, 0xFFFF_FFFF)

_OF_THIS_PROCESS = ("userspace_addr", "dirty_bitmap", "bitmap", "addr")  # the last is a gpa elsewhere, as these can be
# By the kernel's name of a field, whichever struct it stands in.
_BY_NAME = {
    **dict.fromkeys(_OF_THIS_PROCESS, ADDRESSES),
    **dict.fromkeys(("guest_phys_addr", "linear_address", "apic_base", "cr3", "base", "rip", "rsp"), GPAS),
    **dict.fromkeys(("vmxon_pa", "vmcs12_pa", "vmcb_pa"), (*GPAS, (1 << 64) - 1)),
    "memory_size": SIZES,
    **dict.fromkeys(("num_pages", "first_page"), (0, 1, 63, 64, 65, 255, 256, *COUNTS)),
    "slot": SLOTS,
    **dict.fromkeys(("nent", "nmsrs", "nr", "nevents", "len", "nr_xcrs", "nmsrs"), COUNTS),
    **dict.fromkeys(("fd", "resamplefd"), FDS),
    **dict.fromkeys(
        ("gsi", "irq", "pin", "chip_id", "irqchip", "vector"), (0, 1, 2, 15, 16, 23, 24, 255, 256, 4095, 4096)
    ),
    "cap": (*map(int, Cap), 0xFFFF_FFFF),
    "index": _MSRS,
    "function": (0, 1, 7, 0xD, 0x14, 0x1F, 0x4000_0000, 0x8000_0000, 0x8000_0008, 0x8000_001E, 0xFFFF_FFFF),
    "cr0": _CR0,
    "cr4": _CR4,
    "efer": _EFER,
    "format": (0, 1, 2, 0xFFFF),
    "mp_state": (*range(12), 0x7FFF_FFFF, 0xFFFF_FFFF),
}


def number(random, path, bits=64):
    """A value for the field at a path: one of those of its name, three times in four where it has some."""
    name = next((part for part in reversed(path.split(".")) if not part.isdigit()), "")
    if name in _BY_NAME and (name in _OF_THIS_PROCESS or random.randrange(4)):
        return random.choice(_BY_NAME[name])
    near = (0, 1, (1 << bits - 1) - 1, 1 << bits - 1, (1 << bits) - 1, *_BITS[:bits])
    return random.choice(near) if random.randrange(4) else random.getrandbits(bits)
