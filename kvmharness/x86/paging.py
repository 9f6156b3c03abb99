"""Builds 4-level page tables as bytes.

Source: SDM vol. 3A, "4-Level Paging and 5-Level Paging".
"""

from enum import IntFlag

from kvmharness.x86.radix import PAGE_1G, PAGE_2M, PAGE_4K, RadixTables
from kvmharness.x86.registers import Cr3, is_canonical

__all__ = ["KERNEL", "PAGE_1G", "PAGE_2M", "PAGE_4K", "READ_ONLY", "PageTables", "Pte"]


class Pte(IntFlag):
    """Bits of a paging-structure entry. Bit 12 (PAT of a large page) and the protection key are left out."""

    P = 1 << 0
    RW = 1 << 1
    US = 1 << 2
    PWT = 1 << 3
    PCD = 1 << 4
    A = 1 << 5
    D = 1 << 6
    PS = 1 << 7  # PAT in a 4 KiB leaf; the builder sets it on larger leaves by itself
    G = 1 << 8
    NX = 1 << 63


KERNEL = Pte.RW | Pte.A | Pte.D
"""Supervisor read, write, execute. A and D are preset, so that walking never writes to the tables."""

READ_ONLY = Pte.A | Pte.D

_TABLE = int(Pte.P | Pte.RW | Pte.US | Pte.A)
_SETTABLE = int(Pte.P | Pte.RW | Pte.US | Pte.PWT | Pte.PCD | Pte.A | Pte.D | Pte.G | Pte.NX)


class PageTables(RadixTables):
    """One address space. Entries above the leaves allow everything, so a leaf alone decides the access rights.

    Example: `tables = PageTables(0x10000)`, `tables.map(0, 0, 16 << 20, page_bytes=PAGE_2M)`, then write
    `tables.image` at 0x10000 and load CR3 with `tables.cr3().value`.
    """

    name = "page tables"

    def map(self, gva: int, gpa: int, length: int = PAGE_4K, flags: int = KERNEL, *, page_bytes: int = PAGE_4K) -> None:
        """Maps `length` bytes from `gva` to `gpa`; P is implied.

        Args:
            gva, gpa, length: multiples of `page_bytes`.
            flags: of :class:`Pte`, without PS.
            page_bytes: PAGE_4K, PAGE_2M or PAGE_1G.

        Raises:
            ValueError: see :class:`RadixTables`; also a non-canonical address, or a flag that is not the caller's.
        """
        if int(flags) & ~_SETTABLE:
            raise ValueError(f"page flags {int(flags):#x}: PS and bits outside of Pte are not the caller's to set")
        if not is_canonical(gva) or not is_canonical(gva + max(length, 1) - 1):
            raise ValueError(f"{length:#x} bytes from {gva:#x} are not all canonical")
        large = Pte.PS if page_bytes != PAGE_4K else 0
        index_bits = gva & (1 << self.input_bits) - 1
        self._place(index_bits, gpa, length, page_bytes, int(flags) | Pte.P.value | int(large))

    def cr3(self, pcid: int = 0, *, noflush: bool = False) -> Cr3:
        """The CR3 that selects these tables."""
        return Cr3(self.root_gpa, pcid, noflush)

    def _table_entry(self, table_gpa: int) -> int:
        return table_gpa | _TABLE
