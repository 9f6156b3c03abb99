import struct

import pytest

from kvmharness.x86 import segments
from kvmharness.x86.segments import CODE64, DATA, NULL_LDT, Segment, gdt, idt, idt_gate, long_mode_segments, tss


def test_flat_descriptors_golden():
    """The values in Linux' own GDT for kernel code and data (GDT_ENTRY_INIT(0xa09b, ..) and (0xc093, ..))."""
    assert struct.unpack("<Q", CODE64.descriptor) == (0x00AF_9B00_0000_FFFF,)
    assert struct.unpack("<Q", DATA.descriptor) == (0x00CF_9300_0000_FFFF,)


def test_access_rights_golden():
    assert CODE64.access_rights == 0xA09B
    assert DATA.access_rights == 0xC093
    assert segments.tss_segment(0).access_rights == 0x8B
    assert NULL_LDT.access_rights == 0x10000


@pytest.mark.parametrize(("busy", "kind"), [(True, 0xB), (False, 0x9)])
def test_tss_descriptor_scatters_the_base(busy, kind):
    low, high = struct.unpack("<QQ", segments.tss_segment(0x1122_3344_5566_7788, busy=busy).descriptor)
    assert low & 0xFFFF == 0x67
    assert low >> 16 & 0xFF_FFFF == 0x66_7788
    assert low >> 56 == 0x55
    assert low >> 40 & 0xFF == 0x80 | kind
    assert high == 0x1122_3344


def test_gdt_matches_the_selectors():
    table = gdt(0x3000)
    assert len(table) == segments.GDT_BYTES == 56
    assert table[:8] == bytes(8)
    assert table[segments.CODE_SELECTOR :][:8] == CODE64.descriptor
    assert table[segments.DATA_SELECTOR :][:8] == DATA.descriptor
    assert table[segments.TSS_SELECTOR + 5] == 0x8B
    assert gdt(0x3000, busy=False)[segments.TSS_SELECTOR + 5] == 0x89


def test_tss_offsets_golden():
    """SDM, figure "64-Bit TSS Format": RSP0 at 4, IST1 at 36, I/O map base at 102."""
    image = tss(rsp0=0x1111_2222_3333_4444, ist=(0xA, 0xB))
    assert len(image) == 104
    assert struct.unpack_from("<Q", image, 4) == (0x1111_2222_3333_4444,)
    assert struct.unpack_from("<QQ", image, 36) == (0xA, 0xB)
    assert struct.unpack_from("<H", image, 102) == (104,)
    with pytest.raises(ValueError, match="seven"):
        tss(ist=(0,) * 8)


def test_idt_gate_golden():
    """SDM, figure "64-Bit IDT Gate Descriptors"."""
    gate = idt_gate(0x1122_3344_5566_7788, ist=2, dpl=3)
    assert gate.hex() == "8877" + "0800" + "02" + "ee" + "6655" + "44332211" + "00000000"
    with pytest.raises(ValueError, match="IST"):
        idt_gate(0, ist=8)


def test_idt_leaves_other_vectors_absent():
    table = idt({14: 0x5000})
    assert len(table) == 512
    assert table[14 * 16 :][:16] == idt_gate(0x5000)
    assert not any(table[: 14 * 16])
    assert not any(table[15 * 16 :])
    with pytest.raises(ValueError, match="vector"):
        idt({32: 0x5000})


def test_register_file_has_the_kernels_names():
    registers = long_mode_segments(0x3000)
    assert set(registers) == {"cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt"}
    names = "base limit selector type present dpl db s l g avl unusable"
    assert set(registers["cs"].kvm_fields()) == set(names.split())
    assert registers["tr"].kvm_fields()["base"] == 0x3000


@pytest.mark.parametrize(("limit", "g", "text"), [(0x1000, 1, "ones"), (1 << 20, 0, "too large")])
def test_limit_that_cannot_be_written(limit, g, text):
    with pytest.raises(ValueError, match=text):
        _ = Segment(0, limit, 8, 3, g=g).descriptor


def test_a_segment_with_other_fields():
    assert DATA.replace(base=0x1000, dpl=3) == Segment(0x1000, 0xFFFF_FFFF, 0x10, 3, dpl=3, db=1, g=1)
    assert DATA.base == 0
