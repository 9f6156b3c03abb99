"""The guest's memory map: nothing overlaps, everything that guests name exists."""

import re
from itertools import pairwise

import pytest

from kvmharness.guest import layout
from kvmharness.guest import shipped as programs
from kvmharness.guest.layout import MEMORY_BYTES, PAGE_BYTES, Doorbell, Error, Mailbox, Place, Port, Row
from kvmharness.guest.names import named_values
from kvmharness.vendors.svm.l1 import Region as Svm
from kvmharness.vendors.vmx.l1 import Region as Vmx

# Every region, from its first byte to behind its last one; the stack grows down from its place.
REGIONS = {
    "descriptors": (Place.DESCRIPTORS, 0x400),
    "faults": (Place.FAULTS, 0x60),
    "more TSSs and stacks": (0x1500, 0xB00),
    "mailbox": (Place.MAILBOX, PAGE_BYTES),
    "stack": (Place.STACK_TOP - PAGE_BYTES, PAGE_BYTES),
    "vmxon": (Vmx.VMXON_REGION, PAGE_BYTES),
    "vmcs": (Vmx.VMCS_REGION, PAGE_BYTES),
    "vmcs table": (Vmx.VMCS_TABLE, PAGE_BYTES),
    "real mode": (Place.REAL_MODE_CODE, PAGE_BYTES),
    "invept": (Vmx.INVEPT_DESCRIPTOR, 16),
    "vmcb": (Svm.VMCB, PAGE_BYTES),
    "l2 descriptors": (Place.L2_DESCRIPTORS, PAGE_BYTES),
    "l2 reset": (Svm.L2_RESET, PAGE_BYTES),  # the same for both vendors
    "host save area": (Svm.HOST_SAVE_AREA, PAGE_BYTES),
    "l1": (Place.L1_CODE, 0x10000),
    "l2 stack": (Place.L2_STACK_TOP - PAGE_BYTES, PAGE_BYTES),
    "l2": (Place.L2_CODE, 0x8000),
    "test": (Place.TEST_CODE, 0x8000),
    "rows": (Place.ROWS, layout.ROWS_MAX * Row.BYTES),
    "samples": (Place.SAMPLES, layout.SAMPLES_MAX * 8),
    "tables": (Place.TABLES, 0x100000),
    "l2 probe": (Place.L2_PROBE, 0x200000),
}


def test_regions_do_not_overlap_and_fit():
    spans = sorted((start, start + length, name) for name, (start, length) in REGIONS.items())
    for (_, end, name), (start, _, following) in pairwise(spans):
        assert end <= start, f"{name} reaches into {following}"
    assert spans[-1][1] <= MEMORY_BYTES
    assert {start for start, _ in REGIONS.values()} | {Place.STACK_TOP, Place.L2_STACK_TOP} >= {*Place, *Vmx, *Svm}


@pytest.mark.parametrize("words", [Mailbox, Row])
def test_words_do_not_overlap(words):
    offsets = sorted(words)
    assert all(offset % 8 == 0 for offset in offsets)
    assert len(set(offsets)) == len(words.__members__), "two names for one word"


def test_out_takes_every_port_as_an_immediate():
    assert all(port < 0x100 for port in Port)
    assert len({*Port}) == len(Port.__members__)


def test_zero_means_nothing_in_memory_that_was_never_written():
    assert 0 not in set(Doorbell)
    assert 0 not in set(Error)


def test_the_probe_is_above_everything_that_is_mapped_as_it_is():
    assert layout.PROBE_GVA >= MEMORY_BYTES
    assert layout.PROBE_GVA >> 39 != MEMORY_BYTES >> 39, "its own entry in the top table, so roots differ there alone"


def test_every_name_in_the_sources_is_a_value():
    names = named_values()
    used = {
        word
        for path in [*programs.source_folder().glob("*.asm"), *programs.source_folder().glob("*.inc")]
        for line in path.read_text().splitlines()
        for word in re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", line.partition("#")[0])
    }
    assert len(used) > 40
    assert used <= set(names)


def test_vmcs_fields_are_the_manuals():
    """SDM vol. 3D, appendix "Field Encoding in VMCS"."""
    names = named_values()
    assert (names["FIELD_HOST_CR3"], names["FIELD_GUEST_CR3"]) == (0x6C02, 0x6802)
    assert (names["FIELD_EPT_POINTER"], names["FIELD_GUEST_RIP"]) == (0x201A, 0x681E)
    assert (names["FIELD_VM_EXIT_REASON"], names["FIELD_EXIT_QUALIFICATION"]) == (0x4402, 0x6400)
    assert (names["FIELD_VM_INSTRUCTION_ERROR"], names["FIELD_VM_EXIT_INTR_INFO"]) == (0x4400, 0x4404)
