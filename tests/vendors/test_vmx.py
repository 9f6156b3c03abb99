"""What L1 is given to enter L2: the bytes of its regions and of the table it copies into the VMCS."""

import struct

import pytest

from kvmharness.guest import shipped as programs
from kvmharness.guest.layout import PAGE_BYTES, Place
from kvmharness.guest.loader import TABLES
from kvmharness.vendors.known import of_module
from kvmharness.vendors.vendor import FirstEntry, exit_reasons
from kvmharness.vendors.vmx.l1 import Region
from kvmharness.vendors.vmx.vmx import VMX
from kvmharness.x86.vmx_controls import MissingControlError
from tests.x86.capabilities import FIRST_VMX, LYNNFIELD, PENRYN, SKYLAKE

# SDM vol. 3D, appendix "Field Encoding in VMCS".
VPID, EPT_POINTER, PROC2, EXCEPTION_BITMAP = 0x0000, 0x201A, 0x401E, 0x4004
GUEST_CR3, GUEST_CR4, GUEST_RIP = 0x6802, 0x6804, 0x681E
HOST_CR3, HOST_CR4, HOST_RSP, HOST_RIP = 0x6C02, 0x6C04, 0x6C14, 0x6C16
END = 0xFFFF_FFFF

WITHOUT_EPT, WITH_EPT = 0, 0x33000 | 0x1E


def placed(msrs, eptp, *, vpid=False, pcid=False):
    l1, l2 = programs.image("l1_vmx"), programs.image("l2")
    entry = FirstEntry(
        l1.symbols, l2.symbols["entry"], int(Place.STACK_TOP), TABLES, 0x11000, 0x22000, eptp, pcid, vpid, msrs
    )
    return VMX.pages(entry)


def rows(pages):
    """The table as L1's loop reads it: a 32-bit encoding in a word, then a value, up to the end mark."""
    raw = pages[Region.VMCS_TABLE]
    pairs = list(struct.iter_unpack("<II Q", raw))
    assert all(high == 0 for _, high, _ in pairs)
    assert pairs[-1] == (END, 0, 0)
    found = {encoding: value for encoding, _, value in pairs[:-1]}
    assert len(found) == len(pairs) - 1, "a field stands there twice"
    return found


def test_regions_start_with_the_revision():
    pages = placed(SKYLAKE, WITH_EPT)
    assert pages[Region.VMXON_REGION] == pages[Region.VMCS_REGION] == bytes.fromhex("d07ee511")


def test_the_table_of_a_cell_with_ept_and_vpid():
    table = rows(placed(SKYLAKE, WITH_EPT, vpid=True))
    assert (table[GUEST_CR3], table[HOST_CR3], table[EPT_POINTER]) == (0x22000, 0x11000, 0x3301E)
    assert table[VPID] == 1
    assert table[PROC2] & 1 << 1, "enable EPT"
    assert table[PROC2] & 1 << 5, "enable VPID"
    assert table[EXCEPTION_BITMAP] == 0xFFFF_FFFF
    assert table[GUEST_RIP] == Place.L2_CODE
    assert table[HOST_RIP] == programs.image("l1_vmx").symbols["vm_exit"]
    assert table[HOST_RSP] == Place.STACK_TOP
    assert len(placed(SKYLAKE, WITH_EPT, vpid=True)[Region.VMCS_TABLE]) <= PAGE_BYTES


def test_the_table_of_a_cell_without():
    table = rows(placed(LYNNFIELD, WITHOUT_EPT))
    assert not {EPT_POINTER, VPID} & set(table)
    assert not table.get(PROC2, 0) & (1 << 1 | 1 << 5)


def test_both_levels_have_the_same_cr4():
    table = rows(placed(SKYLAKE, WITHOUT_EPT, pcid=True))
    assert table[GUEST_CR4] == table[HOST_CR4] == VMX.cr4(pcid=True)
    assert VMX.cr4(pcid=True) ^ VMX.cr4(pcid=False) == 1 << 17


@pytest.mark.parametrize("msrs", [PENRYN, FIRST_VMX], ids=["penryn", "first"])
def test_a_vcpu_without_ept_or_vpid(msrs):
    with pytest.raises(MissingControlError, match=r"EPT|SECONDARY"):
        placed(msrs, WITH_EPT)
    with pytest.raises(MissingControlError, match=r"VPID|SECONDARY"):
        placed(msrs, WITHOUT_EPT, vpid=True)


def test_exit_reasons_are_the_manuals():
    """SDM vol. 3D, appendix "VMX Basic Exit Reasons"."""
    reasons = exit_reasons(of_module("kvm_intel"))
    assert (reasons["VMRESUME"], reasons["VMCALL"], reasons["VMWRITE"], reasons["VMREAD"]) == (24, 18, 25, 23)
    assert (reasons["CR_ACCESS"], reasons["EXTERNAL_INTERRUPT"], reasons["INVEPT"]) == (28, 1, 50)
    assert of_module(None) is None
