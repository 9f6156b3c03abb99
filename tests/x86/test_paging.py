import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmharness.x86.paging import KERNEL, PAGE_1G, PAGE_2M, PAGE_4K, READ_ONLY, PageTables, Pte
from tests.x86.strategies import mappings, reader
from tests.x86.walker import WalkError, walk

BASE = 0x20_0000


def combined_flags(index: int) -> int:
    """RW, US and NX in all eight combinations."""
    return (0x2 if index & 1 else 0) | (0x4 if index & 2 else 0) | (1 << 63 if index & 4 else 0)


def test_golden_bytes():
    """One 4 KiB and one 2 MiB page, entry by entry as the SDM's tables give them."""
    tables = PageTables(0x1000)
    tables.map(0x20_0000, 0x40_0000, PAGE_2M, page_bytes=PAGE_2M)
    tables.map(0x1000, 0xABC000, flags=Pte.RW | Pte.NX)
    words = struct.unpack("<2048Q", tables.image)
    assert {i: w for i, w in enumerate(words) if w} == {
        0: 0x2027,  # PML4E 0: P RW US A
        512: 0x3027,  # PDPTE 0
        1024: 0x4027,  # PDE 0, made for the 4 KiB page
        1025: 0x40_00E3,  # PDE 1: P RW A D PS
        1536 + 1: 0x8000_0000_00AB_C003,
    }


@given(mappings(), st.integers(0, (1 << 30) - 1), st.integers(0, 4095))
def test_agrees_with_the_independent_walker(maps, offset, pcid):
    tables = PageTables(BASE)
    for address, target, size, index in maps:
        tables.map(address, target, size, combined_flags(index), page_bytes=size)
    read = reader(BASE, tables.image)
    for address, target, size, index in maps:
        seen = walk(read, tables.cr3(pcid, noflush=True).value, address + offset % size)
        assert seen.gpa == target + offset % size
        assert seen.page_bytes == size
        assert (seen.writable, seen.user, seen.executable) == (bool(index & 1), bool(index & 2), not index & 4)
        assert seen.steps[-1].entry_gpa == tables.leaf_gpa(address)
        assert seen.steps[-1].entry == tables.leaf(address)


@given(mappings())
def test_nothing_else_is_mapped(maps):
    tables = PageTables(BASE)
    for address, target, size, _ in maps:
        tables.map(address, target, size, page_bytes=size)
    read = reader(BASE, tables.image)
    mapped = [(address, size) for address, _, size, _ in maps]
    for address, size in mapped:
        behind = address + size
        if behind < 1 << 47 and not any(a <= behind < a + s for a, s in mapped):
            with pytest.raises(WalkError, match="not present"):
                walk(read, BASE, behind)


def test_a_run_of_pages_and_the_upper_half():
    tables = PageTables(BASE)
    tables.map(0xFFFF_8000_0000_0000, 0x10_0000, 1024 * PAGE_4K, READ_ONLY | Pte.G)
    read = reader(BASE, tables.image)
    last = walk(read, BASE, 0xFFFF_8000_003F_FFFF)
    assert (last.gpa, last.writable, last.is_global) == (0x4F_FFFF, False, True)
    assert (last.accessed, last.dirty) == (True, True)


def test_mapping_twice():
    tables = PageTables(BASE)
    tables.map(0x1000, 0x5000)
    tables.map(0x1000, 0x5000)
    with pytest.raises(ValueError, match="already mapped"):
        tables.map(0x1000, 0x6000)
    with pytest.raises(ValueError, match="already mapped"):
        tables.map(0, 0, PAGE_2M, page_bytes=PAGE_2M)
    tables.map(PAGE_1G, 0, PAGE_1G, page_bytes=PAGE_1G)
    with pytest.raises(ValueError, match="larger page"):
        tables.map(PAGE_1G + 0x1000, 0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"gva": 0x1001, "gpa": 0}, "multiple"),
        ({"gva": 0, "gpa": 0x1800}, "multiple"),
        ({"gva": 0x1000, "gpa": 0, "length": PAGE_2M, "page_bytes": PAGE_2M}, "multiple"),
        ({"gva": 0, "gpa": 0, "length": 100}, "multiple"),
        ({"gva": 0, "gpa": 0, "page_bytes": 8192, "length": 8192}, "no page"),
        ({"gva": 1 << 47, "gpa": 0}, "canonical"),
        ({"gva": (1 << 47) - 0x1000, "gpa": 0, "length": 0x2000}, "canonical"),
        ({"gva": 0, "gpa": 1 << 52}, "2\\^52"),
        ({"gva": 0, "gpa": 0, "flags": KERNEL | Pte.PS}, "PS"),
        ({"gva": 0, "gpa": 0, "flags": 1 << 12}, "flags"),
        ({"gva": 0, "gpa": 0, "length": 0}, "do not fit"),
    ],
)
def test_refuses(arguments, text):
    with pytest.raises(ValueError, match=text):
        PageTables(BASE).map(**arguments)


def test_room_and_alignment():
    with pytest.raises(ValueError, match="multiple"):
        PageTables(0x1800)
    tables = PageTables(BASE, max_bytes=2 * PAGE_4K)
    with pytest.raises(ValueError, match="more than"):
        tables.map(0, 0)
    with pytest.raises(ValueError, match="not mapped"):
        PageTables(BASE).leaf(0x1000)


class TestWalker:
    """The walker must see what a processor would fault on."""

    def walk_one(self, level: int, bits: int, **kwargs):
        """Walks address 0 through tables in which one entry is altered."""
        words = {0x1000: 0x2007, 0x2000: 0x3007, 0x3000: 0x4007, 0x4000: 0x9007}
        entry = 0x1000 * (5 - level)
        words[entry] ^= bits
        return walk(lambda gpa: words[gpa], 0x1000, 0, **kwargs)

    def test_good(self):
        seen = self.walk_one(1, 0)
        assert (seen.gpa, seen.writable, seen.user, seen.executable) == (0x9000, True, True, True)

    @pytest.mark.parametrize("level", [1, 2, 3, 4])
    def test_rights_are_combined(self, level):
        assert not self.walk_one(level, 0x2).writable
        assert not self.walk_one(level, 0x4).user
        assert not self.walk_one(level, 1 << 63).executable
        with pytest.raises(WalkError, match="not present") as caught:
            self.walk_one(level, 0x1)
        assert caught.value.steps[-1].level == level

    @pytest.mark.parametrize("level", [1, 2, 3, 4])
    def test_reserved_address_bits(self, level):
        with pytest.raises(WalkError, match="reserved bits"):
            self.walk_one(level, 1 << 40, physical_bits=40)

    @pytest.mark.parametrize(("level", "bits"), [(4, 0x80), (3, 0x80 | 1 << 14), (2, 0x80 | 1 << 20)])
    def test_reserved_with_page_size(self, level, bits):
        with pytest.raises(WalkError, match="reserved bits"):
            self.walk_one(level, bits)

    def test_non_canonical(self):
        with pytest.raises(WalkError, match="non-canonical"):
            walk(lambda gpa: 0, 0x1000, 1 << 47)
