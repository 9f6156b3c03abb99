import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmharness.x86.registers import (
    LONG_MODE_CR0,
    LONG_MODE_CR4,
    LONG_MODE_EFER,
    Cr0,
    Cr3,
    Cr4,
    Efer,
    control_register_conflict,
    cr3_reserved_bits,
    is_canonical,
)

tables = st.integers(0, (1 << 40) - 1).map(lambda page: page << 12)


def test_cr3_golden():
    assert Cr3(0x1000, 0x123).value == 0x1123
    assert Cr3(0x1000, 0x123, noflush=True).value == 0x8000_0000_0000_1123


@given(tables, st.integers(0, 0xFFF), st.booleans())
def test_cr3_round_trip(table, pcid, noflush):
    cr3 = Cr3(table, pcid, noflush)
    assert Cr3.decode(cr3.value, pcide=True) == cr3


@pytest.mark.parametrize("value", [0x1001, 0x1000 | 1 << 63, 0x1008])
def test_cr3_decode_without_pcide_takes_no_pcid_and_no_noflush(value):
    with pytest.raises(ValueError, match="PCIDE"):
        Cr3.decode(value, pcide=False)


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"table_gpa": 0x1001}, "aligned"),
        ({"table_gpa": 1 << 52}, "2\\^52"),
        ({"table_gpa": 0, "pcid": 4096}, "PCID"),
        ({"table_gpa": 0, "pcid": -1}, "PCID"),
    ],
)
def test_cr3_refuses_what_does_not_fit(kwargs, text):
    with pytest.raises(ValueError, match=text):
        Cr3(**kwargs)


def test_cr3_reserved_bits():
    noflush = 1 << 63
    assert cr3_reserved_bits(0xFFF, physical_bits=40, pcide=False) == 0
    assert cr3_reserved_bits(1 << 40, physical_bits=40, pcide=False) == 1 << 40
    assert cr3_reserved_bits(1 << 39, physical_bits=40, pcide=False) == 0
    assert cr3_reserved_bits(noflush, physical_bits=40, pcide=True) == 0
    assert cr3_reserved_bits(noflush, physical_bits=40, pcide=False) == noflush
    assert cr3_reserved_bits(noflush, physical_bits=40, pcide=True, mov=False) == noflush


@pytest.mark.parametrize(
    ("flag", "bit"),
    [
        (Cr0.NE, 5),
        (Cr0.WP, 16),
        (Cr0.CD, 30),
        (Cr0.PG, 31),
        (Cr4.PAE, 5),
        (Cr4.PGE, 7),
        (Cr4.LA57, 12),
        (Cr4.VMXE, 13),
        (Cr4.PCIDE, 17),
        (Cr4.SMEP, 20),
        (Cr4.SMAP, 21),
        (Efer.LME, 8),
        (Efer.LMA, 10),
        (Efer.NXE, 11),
        (Efer.SVME, 12),
    ],
)
def test_bits_golden(flag, bit):
    assert int(flag) == 1 << bit


def test_long_mode_values_agree():
    assert control_register_conflict(LONG_MODE_CR0, LONG_MODE_CR4, LONG_MODE_EFER) == ""


@pytest.mark.parametrize(
    ("cr0", "cr4", "efer", "text"),
    [
        (Cr0.PG, 0, 0, "CR0.PE"),
        (Cr0.PE | Cr0.NW, 0, 0, "CR0.CD"),
        (LONG_MODE_CR0, 0, LONG_MODE_EFER, "CR4.PAE"),
        (Cr0.PE, Cr4.PCIDE, 0, "PCIDE"),
        (LONG_MODE_CR0, LONG_MODE_CR4, Efer.LME, "LMA"),
    ],
)
def test_conflicts_are_named(cr0, cr4, efer, text):
    assert text in control_register_conflict(cr0, cr4, efer)


def test_canonical():
    good = (0, 0x7FFF_FFFF_FFFF, 0xFFFF_8000_0000_0000, (1 << 64) - 1)
    assert all(map(is_canonical, good))
    assert not any(map(is_canonical, (0x8000_0000_0000, 0xFFFF_7FFF_FFFF_FFFF, 1 << 64, -1)))
