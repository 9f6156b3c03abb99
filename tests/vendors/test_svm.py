"""What L1 is given to enter L2 on SVM, and how the vendor is chosen."""

import pytest

from kvmharness.abi.binding import ffi
from kvmharness.errors import HostRequirementError
from kvmharness.guest import shipped as programs
from kvmharness.guest.layout import Place
from kvmharness.guest.loader import TABLES
from kvmharness.kvm.capabilities import Capabilities
from kvmharness.kvm.lists import CpuidEntry, pack_cpuid
from kvmharness.kvm.nested import offered_vendor
from kvmharness.vendors.known import of_module
from kvmharness.vendors.svm.l1 import Region
from kvmharness.vendors.svm.svm import SVM
from kvmharness.vendors.vendor import FirstEntry, exit_reasons
from kvmharness.vendors.vmx.vmx import VMX

WITHOUT_NPT, WITH_NPT = 0, 0x33000


def word(page, offset, size=8):
    return int.from_bytes(page[offset : offset + size], "little")


def page(n_cr3, *, vpid=True):
    l1, l2 = programs.image("l1_svm"), programs.image("l2_svm")
    entry = FirstEntry(
        l1.symbols, l2.symbols["entry"], int(Place.STACK_TOP), TABLES, 0x11000, 0x22000, n_cr3, False, vpid, {}
    )
    return SVM.pages(entry)[Region.VMCB]


def test_the_vmcb_of_a_cell_with_nested_paging():
    """Offsets: APM vol. 2, appendix "Layout of VMCB"."""
    made = page(WITH_NPT)
    assert (word(made, 0x90), word(made, 0xB0)) == (1, 0x33000)
    assert (word(made, 0x550), word(made, 0x578)) == (0x22000, Place.L2_CODE)
    assert word(made, 0x08, 4) == 0xFFFF_FFFF, "every exception of L2 is seen"
    assert word(made, 0x4D0) & 1 << 12, "EFER.SVME, which VMRUN demands"


def test_a_constant_asid_keeps_translations_and_no_vpid_flushes_them():
    assert [(word(made, 0x58, 4), made[0x5C]) for made in (page(WITHOUT_NPT), page(WITHOUT_NPT, vpid=False))] == [
        (1, 0),
        (1, 1),
    ]
    assert (word(page(WITHOUT_NPT), 0x90), word(page(WITHOUT_NPT), 0xB0)) == (0, 0)


def test_pcid_is_a_bit_of_cr4():
    assert SVM.cr4(pcid=True) ^ SVM.cr4(pcid=False) == 1 << 17
    assert not SVM.cr4(pcid=False) & 1 << 13, "there is no VMXE"


def offering(*entries):
    """Capabilities of a KVM that gives its guests just these CPUID entries."""
    table = pack_cpuid(entries)
    return Capabilities(bytes(ffi.buffer(table))[ffi.sizeof("struct kvm_cpuid2") :], {}, b"", b"")


# SDM vol. 2A, CPUID leaf 1, ECX bit 5; APM vol. 3, CPUID Fn8000_0001, ECX bit 2.
VMX_LEAF = CpuidEntry(1, 0, 0, 0, 0, 1 << 5, 0)
SVM_LEAF = CpuidEntry(0x8000_0001, 0, 0, 0, 0, 1 << 2, 0)


@pytest.mark.parametrize(("leaf", "vendor", "program"), [(SVM_LEAF, SVM, "l1_svm"), (VMX_LEAF, VMX, "l1_vmx")])
def test_what_kvm_offers_decides(leaf, vendor, program):
    found = offered_vendor(offering(CpuidEntry(0, 0, 0, 0, 0, 0, 0), leaf))
    assert found is vendor
    assert found.l1_program == program
    assert found.l1_moves_cr3 is (program == "l1_svm"), "HOST_CR3 is VMX's"
    assert {found.l1_program, found.l2_program} <= set(programs.names())


def test_a_kvm_without_nesting():
    with pytest.raises(HostRequirementError, match="neither VMX nor SVM"):
        offered_vendor(offering(CpuidEntry(1, 0, 0, 0, 0, 0, 0)))


def test_exit_codes_are_the_manuals():
    """APM vol. 2, appendix "SVM Intercept Exit Codes"."""
    reasons = exit_reasons(of_module("kvm_amd"))
    assert (reasons["VMRUN"], reasons["VMMCALL"], reasons["NPF"], reasons["IOIO"]) == (0x80, 0x81, 0x400, 0x7B)
    assert (reasons["WRITE_CR3"], reasons["EXCEPTION_PF"], reasons["INTR"]) == (0x13, 0x4E, 0x60)


def test_l2_differs_in_its_hypercall_alone():
    vmx, amd = programs.image("l2"), programs.image("l2_svm")
    assert vmx.symbols == amd.symbols
    at = vmx.symbols["hypercall"] - vmx.origin
    assert (vmx.code[at : at + 3], amd.code[at : at + 3]) == (b"\x0f\x01\xc1", b"\x0f\x01\xd9")
    assert vmx.code[:at] + vmx.code[at + 3 :] == amd.code[:at] + amd.code[at + 3 :]
