import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmharness.x86.ept import RWX, Epte, Eptp, EptTables, MemoryType
from kvmharness.x86.paging import PAGE_2M
from tests.x86.strategies import mappings, reader
from tests.x86.walker import WalkError, walk_ept

BASE = 0x40_0000
GOOD_ACCESS = (0b001, 0b011, 0b100, 0b101, 0b111)  # R, RW, X, RX, RWX
tables_gpa = st.integers(0, (1 << 40) - 1).map(lambda page: page << 12)


def test_eptp_golden():
    """SDM, table "Format of Extended-Page-Table Pointer": write-back 6, walk length 4 encoded as 3, A/D in bit 6."""
    assert Eptp(0x1000).value == 0x101E
    assert Eptp(0x1000, access_dirty=True).value == 0x105E
    assert Eptp(0x1000, MemoryType.UC, 5).value == 0x1020


@given(tables_gpa, st.sampled_from([MemoryType.UC, MemoryType.WB]), st.sampled_from([4, 5]), st.booleans())
def test_eptp_round_trip(table, memory_type, levels, access_dirty):
    eptp = Eptp(table, memory_type, levels, access_dirty)
    assert Eptp.decode(eptp.value) == eptp


@pytest.mark.parametrize("value", [0x109E, 0x181E, 1 << 52 | 0x1E, 0x101A, 0x1019, 0x1016, 0x1036, 1 << 64 | 0x1E])
def test_eptp_decode_refuses(value):
    with pytest.raises(ValueError, match="EPTP"):
        Eptp.decode(value)


@pytest.mark.parametrize("arguments", [{"table_gpa": 0x1010}, {"table_gpa": 0, "walk_levels": 3}])
def test_eptp_refuses(arguments):
    with pytest.raises(ValueError, match="EPT"):
        Eptp(**arguments)


def test_golden_bytes():
    tables = EptTables(0x1000)
    tables.map(0, 0x40_0000, PAGE_2M, page_bytes=PAGE_2M)
    tables.map(PAGE_2M, 0xABC000, flags=Epte.R | Epte.X, memory_type=MemoryType.UC)
    words = struct.unpack("<2048Q", tables.image)
    assert {i: w for i, w in enumerate(words) if w} == {
        0: 0x2007,
        512: 0x3007,
        1024: 0x40_00B7,  # RWX, WB, page
        1025: 0x4007,
        1536: 0xABC005,
    }


@given(mappings(input_bits=48), st.integers(0, (1 << 30) - 1), st.sampled_from(list(MemoryType)))
def test_agrees_with_the_independent_walker(maps, offset, memory_type):
    tables = EptTables(BASE)
    for address, target, size, index in maps:
        flags = GOOD_ACCESS[index % 5]
        tables.map(address, target, size, flags, page_bytes=size, memory_type=memory_type)
    read = reader(BASE, tables.image)
    for address, target, size, index in maps:
        seen = walk_ept(read, tables.eptp(access_dirty=True).value, address + offset % size)
        rights = GOOD_ACCESS[index % 5]
        assert (seen.gpa, seen.page_bytes) == (target + offset % size, size)
        assert (seen.readable, seen.writable, seen.executable) == tuple(bool(rights >> i & 1) for i in range(3))
        assert seen.memory_type == memory_type
        assert (seen.ignore_pat, seen.accessed, seen.dirty) == (False, False, False)
        assert seen.steps[-1].entry_gpa == tables.leaf_gpa(address)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"gpa": 0, "target": 0, "flags": Epte.W}, "misconfiguration"),
        ({"gpa": 0, "target": 0, "flags": Epte.W | Epte.X}, "misconfiguration"),
        ({"gpa": 0, "target": 0, "flags": Epte.A}, "not present"),
        ({"gpa": 0, "target": 0, "flags": RWX | Epte.PS}, "PS"),
        ({"gpa": 1 << 48, "target": 0}, "fit"),
        ({"gpa": 0, "target": 0x800}, "multiple"),
    ],
)
def test_refuses(arguments, text):
    with pytest.raises(ValueError, match=text):
        EptTables(BASE).map(**arguments)


class TestWalker:
    def walk_one(self, level: int, bits: int, **kwargs):
        words = {0x1000: 0x2007, 0x2000: 0x3007, 0x3000: 0x4007, 0x4000: 0x9037}
        words[0x1000 * (5 - level)] ^= bits
        return walk_ept(lambda gpa: words[gpa], 0x101E, 0, **kwargs)

    @pytest.mark.parametrize("level", [1, 2, 3, 4])
    def test_rights_are_combined(self, level):
        assert not self.walk_one(level, 0b010).writable
        assert not self.walk_one(level, 0b100).executable
        with pytest.raises(WalkError, match="not present"):
            self.walk_one(level, 0b111)

    @pytest.mark.parametrize("level", [1, 2, 3, 4])
    def test_misconfigurations(self, level):
        for bits in (0b001, 0b101, 1 << 45):
            with pytest.raises(WalkError, match="misconfigured"):
                self.walk_one(level, bits, physical_bits=45)

    def test_execute_only_where_the_processor_has_it(self):
        assert not self.walk_one(1, 0b011).readable
        with pytest.raises(WalkError, match="misconfigured"):
            self.walk_one(1, 0b011, execute_only=False)

    @pytest.mark.parametrize(
        ("level", "bits"), [(4, 0x80), (4, 0x8), (3, 0x40), (3, 0x80 | 1 << 12), (2, 0x80 | 1 << 20), (1, 0x8)]
    )
    def test_reserved_bits_and_memory_types(self, level, bits):
        with pytest.raises(WalkError, match="misconfigured"):
            self.walk_one(level, bits)

    def test_beyond_four_levels(self):
        with pytest.raises(WalkError, match="non-canonical"):
            walk_ept(lambda gpa: 0, 0x101E, 1 << 48)
