"""The 4-level radix tree that ordinary paging and EPT share: allocation, splitting an address, placing leaves.

What an entry looks like is the subclasses' business (paging.py, ept.py).
"""

import struct
from abc import ABC, abstractmethod

PAGE_4K = 1 << 12
PAGE_2M = 1 << 21
PAGE_1G = 1 << 30

LEVELS = 4
ENTRY_BYTES = 8
ENTRIES = 512

# Entries and pages are numbered by the SDM's levels: 1 = PTE, 2 = PDE, 3 = PDPTE, 4 = PML4E.
_LEAF_LEVEL = {PAGE_4K: 1, PAGE_2M: 2, PAGE_1G: 3}
_ENTRY = struct.Struct("<Q")


class RadixTables(ABC):
    """Builds the tables of one tree as bytes, contiguous from `base_gpa`; the root is the first page.

    Args:
        base_gpa: where the image will be in guest-physical memory, page aligned.
        max_bytes: room for the image; 0 means any.

    Raises:
        ValueError: here and in every method, for what cannot be expressed: misaligned, out of range, mapped twice
            to different things, or no room left.
    """

    name = "table"
    input_bits = 48

    def __init__(self, base_gpa: int, *, max_bytes: int = 0) -> None:
        _check_aligned("table base", base_gpa, PAGE_4K)
        self.base_gpa = base_gpa
        self._max_bytes = max_bytes
        self._image = bytearray(PAGE_4K)

    @property
    def root_gpa(self) -> int:
        """Physical address of the top-level table."""
        return self.base_gpa

    @property
    def image(self) -> bytes:
        """All tables, to be written at `base_gpa`."""
        return bytes(self._image)

    def leaf_gpa(self, address: int) -> int:
        """Physical address of the entry that maps `address`: what a guest edits to change the mapping."""
        entry = self._find_leaf(address)
        if entry is None:
            raise ValueError(f"{self.name}: {address:#x} is not mapped")
        return self.base_gpa + entry

    def entry_gpa(self, address: int, level: int) -> int:
        """Physical address of the entry of one level on the way to `address`; 1 is the lowest.

        Raises:
            ValueError: the way does not lead there.
        """
        table = 0
        for upper in range(LEVELS, level, -1):
            value = self._read(self._entry(table, address, upper))
            if not value or self._is_leaf(value, upper):
                raise ValueError(f"{self.name}: {address:#x} has no entry of level {level}")
            table = self._target(value) - self.base_gpa
        return self.base_gpa + self._entry(table, address, level)

    def word_at(self, gpa: int) -> int:
        """The entry at a physical address inside these tables."""
        return self._read(gpa - self.base_gpa)

    def leaf(self, address: int) -> int:
        """The 8-byte entry that maps `address`."""
        return self._read(self.leaf_gpa(address) - self.base_gpa)

    def _place(self, address: int, target: int, length: int, page_bytes: int, leaf_bits: int) -> None:
        """Maps [address, address + length) to target with leaves of one size; `leaf_bits` come ready made."""
        if page_bytes not in _LEAF_LEVEL:
            raise ValueError(f"{self.name}: no page has {page_bytes} bytes")
        for what, value in (("address", address), ("target", target), ("length", length)):
            _check_aligned(f"{self.name} {what}", value, page_bytes)
        if length <= 0 or address + length > 1 << self.input_bits:
            raise ValueError(f"{self.name}: {length:#x} bytes from {address:#x} do not fit in the address space")
        if target + length > 1 << 52:
            raise ValueError(f"{self.name}: target {target:#x} is beyond 2^52")
        level = _LEAF_LEVEL[page_bytes]
        for offset in range(0, length, page_bytes):
            self._set_leaf(address + offset, level, target + offset | leaf_bits)

    def _set_leaf(self, address: int, level: int, value: int) -> None:
        entry = self._entry(0, address, LEVELS)
        for upper in range(LEVELS, level, -1):
            old = self._read(entry)
            if old and self._is_leaf(old, upper):
                raise ValueError(f"{self.name}: {address:#x} is already mapped by a larger page")
            table = self._target(old) - self.base_gpa if old else self._new_table(entry)
            entry = self._entry(table, address, upper - 1)
        old = self._read(entry)
        if old and old != value:
            raise ValueError(f"{self.name}: {address:#x} is already mapped by entry {old:#x}")
        self._write(entry, value)

    def _find_leaf(self, address: int) -> int | None:
        table = 0
        for level in range(LEVELS, 0, -1):
            entry = self._entry(table, address, level)
            value = self._read(entry)
            if not value:
                return None
            if self._is_leaf(value, level):
                return entry
            table = self._target(value) - self.base_gpa
        return None

    def _new_table(self, entry: int) -> int:
        table = len(self._image)
        if self._max_bytes and table + PAGE_4K > self._max_bytes:
            raise ValueError(f"{self.name}: the tables need more than the {self._max_bytes:#x} bytes given")
        self._image += bytes(PAGE_4K)
        self._write(entry, self._table_entry(self.base_gpa + table))
        return table

    @staticmethod
    def _entry(table: int, address: int, level: int) -> int:
        return table + (address >> 12 + 9 * (level - 1) & ENTRIES - 1) * ENTRY_BYTES

    @staticmethod
    def _target(entry: int) -> int:
        return entry & (1 << 52) - PAGE_4K

    def _read(self, offset: int) -> int:
        value: int = _ENTRY.unpack_from(self._image, offset)[0]
        return value

    def _write(self, offset: int, value: int) -> None:
        _ENTRY.pack_into(self._image, offset, value)

    def _is_leaf(self, entry: int, level: int) -> bool:
        # Bit 7 says "page" above the lowest level, in ordinary paging and in EPT alike.
        return level == 1 or bool(entry & 1 << 7)

    @abstractmethod
    def _table_entry(self, table_gpa: int) -> int:
        """The entry that leads to a table of the next level."""


def _check_aligned(what: str, value: int, alignment: int) -> None:
    if value < 0 or value & alignment - 1:
        raise ValueError(f"{what} {value:#x}: must be a multiple of {alignment:#x}")
