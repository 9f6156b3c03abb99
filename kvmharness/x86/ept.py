"""Extended page tables as bytes, and the EPT pointer.

Source: SDM vol. 3C, "The Extended Page Table Mechanism (EPT)" and "Extended-Page-Table Pointer (EPTP)".
"""

from enum import IntEnum, IntFlag

from kvmharness.lean.dataclasses import dataclass
from kvmharness.x86.radix import LEVELS, PAGE_4K, RadixTables

__all__ = ["RWX", "EptTables", "Epte", "Eptp", "MemoryType"]


class MemoryType(IntEnum):
    """Memory types as EPT and the EPTP encode them. 2, 3 and 7 are reserved."""

    UC = 0
    WC = 1
    WT = 4
    WP = 5
    WB = 6


class Epte(IntFlag):
    """Bits of an EPT entry, without the memory type in bits 5:3."""

    R = 1 << 0
    W = 1 << 1
    X = 1 << 2
    IPAT = 1 << 6
    PS = 1 << 7  # a leaf above the lowest level; the builder sets it by itself
    A = 1 << 8
    D = 1 << 9


RWX = Epte.R | Epte.W | Epte.X

_SETTABLE = int(RWX | Epte.IPAT | Epte.A | Epte.D)
_MEMORY_TYPE_SHIFT = 3
_EPTP_WALK_SHIFT = 3
_EPTP_AD = 1 << 6
_EPTP_RESERVED = 0xF80 | (0xFFF << 52)


@dataclass(frozen=True, slots=True)
class Eptp:
    """The EPT_POINTER field.

    Attributes:
        table_gpa: physical address of the EPT PML4, page aligned.
        memory_type: of accesses to the tables themselves, UC or WB.
        walk_levels: 4 or 5; encoded as one less.
        access_dirty: whether the processor keeps accessed and dirty bits in the tables.

    Raises:
        ValueError: a field that does not fit.
    """

    table_gpa: int
    memory_type: MemoryType = MemoryType.WB
    walk_levels: int = LEVELS
    access_dirty: bool = False

    def __post_init__(self) -> None:
        if self.table_gpa & 0xFFF or not 0 <= self.table_gpa < 1 << 52:
            raise ValueError(f"EPT root {self.table_gpa:#x}: must be page aligned and below 2^52")
        if self.memory_type not in (MemoryType.UC, MemoryType.WB):
            raise ValueError(f"EPTP memory type {self.memory_type}: only UC and WB are allowed")
        if self.walk_levels not in (4, 5):
            raise ValueError(f"EPTP walk of {self.walk_levels} levels: only 4 and 5 exist")

    @property
    def value(self) -> int:
        """The 64-bit field."""
        low = self.memory_type | self.walk_levels - 1 << _EPTP_WALK_SHIFT | (_EPTP_AD if self.access_dirty else 0)
        return self.table_gpa | low

    @classmethod
    def decode(cls, value: int) -> "Eptp":
        """Takes the field apart.

        Raises:
            ValueError: reserved bits, or an encoding that VM entry refuses.
        """
        if value & _EPTP_RESERVED or value >> 64:
            raise ValueError(f"EPTP {value:#x}: reserved bits {value & _EPTP_RESERVED:#x} are set")
        try:
            memory_type = MemoryType(value & 7)
        except ValueError:
            raise ValueError(f"EPTP {value:#x}: memory type {value & 7} is reserved") from None
        table = value & ~0xFFF
        return cls(table, memory_type, (value >> _EPTP_WALK_SHIFT & 7) + 1, bool(value & _EPTP_AD))


class EptTables(RadixTables):
    """One nested address space: L2's guest-physical addresses to L1's."""

    name = "EPT"

    def map(
        self,
        gpa: int,
        target: int,
        length: int = PAGE_4K,
        flags: int = RWX,
        *,
        page_bytes: int = PAGE_4K,
        memory_type: MemoryType = MemoryType.WB,
    ) -> None:
        """Maps `length` bytes of L2's physical space from `gpa` to L1's `target`.

        Args:
            gpa, target, length: multiples of `page_bytes`.
            flags: of :class:`Epte`, without PS. W without R is a misconfiguration, and refused.
            page_bytes: PAGE_4K, PAGE_2M or PAGE_1G.
            memory_type: of the leaf.

        Raises:
            ValueError: see :class:`RadixTables`; also an impossible flag.
        """
        bits = int(flags)
        if bits & ~_SETTABLE:
            raise ValueError(f"EPT flags {bits:#x}: PS and bits outside of Epte are not the caller's to set")
        if bits & Epte.W.value and not bits & Epte.R.value:
            raise ValueError(f"EPT flags {bits:#x}: writable but not readable is a misconfiguration")
        if not bits & RWX.value:
            raise ValueError("EPT flags without R, W and X: such an entry is not present")
        large = Epte.PS.value if page_bytes != PAGE_4K else 0
        self._place(gpa, target, length, page_bytes, bits | large | memory_type << _MEMORY_TYPE_SHIFT)

    def eptp(self, *, access_dirty: bool = False) -> Eptp:
        """The EPTP that selects these tables, write-back."""
        return Eptp(self.root_gpa, access_dirty=access_dirty)

    def _table_entry(self, table_gpa: int) -> int:
        return table_gpa | RWX.value
