"""Walks page tables and EPT as the processor does: the second opinion on what the builders wrote, and diagnostics.

It shares no constant with paging.py, ept.py or radix.py on purpose: every bit position below was taken from the SDM
by itself, so that an error there is an error on one side only.
Source: SDM vol. 3A, "Format of a PML4 Entry (PML4E)" to "Format of a Page-Table Entry that Maps a 4-KByte Page";
vol. 3C, "EPT Misconfigurations" and "EPT Violations".
"""

from collections.abc import Callable

from kvmharness.lean.dataclasses import dataclass

ReadU64 = Callable[[int], int]
"""Reads the 8 bytes at a physical address, little-endian."""


@dataclass(frozen=True, slots=True)
class Step:
    """One entry on the way: its level (4 = PML4E to 1 = PTE), where it is, what it holds."""

    level: int
    entry_gpa: int
    entry: int

    def __str__(self) -> str:
        return f"L{self.level} [{self.entry_gpa:#x}] = {self.entry:#x}"


@dataclass(frozen=True, slots=True)
class Walk:
    """Where a linear address leads, with the rights combined over all levels."""

    gpa: int
    page_bytes: int
    writable: bool
    user: bool
    executable: bool
    is_global: bool
    accessed: bool  # in the leaf
    dirty: bool
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class EptWalk:
    """Where a guest-physical address leads under EPT, with the rights combined over all levels."""

    gpa: int
    page_bytes: int
    readable: bool
    writable: bool
    executable: bool
    memory_type: int
    ignore_pat: bool
    accessed: bool
    dirty: bool
    steps: tuple[Step, ...]


class WalkError(Exception):
    """The walk does not reach a page.

    Attributes:
        reason: "non-canonical", "not present", "reserved bits" or "misconfigured".
        steps: the entries seen so far, the guilty one last.
    """

    def __init__(self, address: int, reason: str, steps: list[Step]) -> None:
        self.reason = reason
        self.steps = tuple(steps)
        path = ", ".join(map(str, steps)) or "no entry read"
        super().__init__(f"walk of {address:#x}: {reason} ({path})")


def walk(read_u64: ReadU64, cr3: int, gva: int, *, physical_bits: int = 52) -> Walk:
    """Translates a linear address with 4-level paging, EFER.NXE = 1.

    Args:
        read_u64: access to guest-physical memory.
        cr3: the CR3 value; a PCID and bit 63 are ignored.
        gva: linear address.
        physical_bits: MAXPHYADDR; entry bits from there to 51 are reserved.

    Raises:
        WalkError: non-canonical, not present, or reserved bits set.
    """
    steps: list[Step] = []
    if gva >> 47 not in (0, 0x1FFFF):
        raise WalkError(gva, "non-canonical", steps)
    table = cr3 & 0x000F_FFFF_FFFF_F000
    writable = user = executable = True
    for level, shift in ((4, 39), (3, 30), (2, 21), (1, 12)):
        entry_gpa = table + ((gva >> shift) & 0x1FF) * 8
        entry = read_u64(entry_gpa)
        steps.append(Step(level, entry_gpa, entry))
        if not entry & 0x1:
            raise WalkError(gva, "not present", steps)
        writable = writable and bool(entry & 0x2)
        user = user and bool(entry & 0x4)
        executable = executable and not entry & 0x8000_0000_0000_0000
        is_page = level == 1 or bool(entry & 0x80)
        reserved = 0x000F_FFFF_FFFF_FFFF & ~((1 << physical_bits) - 1)
        if level == 4:
            reserved |= 0x80
        elif is_page and level > 1:
            reserved |= (1 << shift) - (1 << 13)  # bit 12 of a large page is PAT
        if entry & reserved:
            raise WalkError(gva, "reserved bits", steps)
        if is_page:
            offset = gva & ((1 << shift) - 1)
            page = entry & 0x000F_FFFF_FFFF_F000 & ~((1 << shift) - 1)
            flags = (bool(entry & 0x100), bool(entry & 0x20), bool(entry & 0x40))
            return Walk(page | offset, 1 << shift, writable, user, executable, *flags, tuple(steps))
        table = entry & 0x000F_FFFF_FFFF_F000
    raise AssertionError("a level-1 entry always ends the walk")


def walk_ept(read_u64: ReadU64, eptp: int, gpa: int, *, physical_bits: int = 52, execute_only: bool = True) -> EptWalk:
    """Translates a guest-physical address with a 4-level EPT.

    Args:
        read_u64: access to the memory in which the EPT is.
        eptp: the EPT_POINTER value; only its address is used.
        gpa: guest-physical address, below 2^48.
        physical_bits: MAXPHYADDR; entry bits from there to 51 are reserved.
        execute_only: whether the processor allows X without R.

    Raises:
        WalkError: not present (a violation whatever the access), or misconfigured.
    """
    steps: list[Step] = []
    if gpa >> 48:
        raise WalkError(gpa, "non-canonical", steps)
    table = eptp & 0x000F_FFFF_FFFF_F000
    rights = 0x7
    for level, shift in ((4, 39), (3, 30), (2, 21), (1, 12)):
        entry_gpa = table + ((gpa >> shift) & 0x1FF) * 8
        entry = read_u64(entry_gpa)
        steps.append(Step(level, entry_gpa, entry))
        if not entry & 0x7:
            raise WalkError(gpa, "not present", steps)
        is_page = level == 1 or (level < 4 and bool(entry & 0x80))
        if _misconfigured(entry, level, shift, is_page, physical_bits, execute_only):
            raise WalkError(gpa, "misconfigured", steps)
        rights &= entry
        if is_page:
            offset = gpa & ((1 << shift) - 1)
            page = entry & 0x000F_FFFF_FFFF_F000 & ~((1 << shift) - 1)
            access = (bool(rights & 1), bool(rights & 2), bool(rights & 4))
            flags = (bool(entry & 0x40), bool(entry & 0x100), bool(entry & 0x200))
            return EptWalk(page | offset, 1 << shift, *access, (entry >> 3) & 7, *flags, tuple(steps))
        table = entry & 0x000F_FFFF_FFFF_F000
    raise AssertionError("a level-1 entry always ends the walk")


def _misconfigured(entry: int, level: int, shift: int, is_page: bool, physical_bits: int, execute_only: bool) -> bool:
    access = entry & 0x7
    if access in (0b010, 0b110) or (access == 0b100 and not execute_only):
        return True
    reserved = 0x000F_FFFF_FFFF_FFFF & ~((1 << physical_bits) - 1)
    if level == 4:
        reserved |= 0xF8
    elif not is_page:
        reserved |= 0x78
    elif level > 1:
        reserved |= (1 << shift) - (1 << 12)
    if entry & reserved:
        return True
    return is_page and (entry >> 3) & 7 in (2, 3, 7)
