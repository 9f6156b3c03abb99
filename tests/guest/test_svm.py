"""What L1 is given to enter L2 on SVM, and how the vendor is chosen."""

import pytest

from kvmharness.abi.constants import NestedFormat
from kvmharness.errors import HostRequirementError
from kvmharness.guest import hypervisor, svm
from kvmharness.guest import shipped as programs
from kvmharness.guest.layout import Action, Place
from kvmharness.guest.rows import RoundTrip
from kvmharness.guest.vmx import Vmx

WITHOUT_NPT = RoundTrip(host_cr3=0x11000, host_tag=1, guest_cr3=0x22000, guest_tag=2)
WITH_NPT = RoundTrip(host_cr3=0x11000, host_tag=1, guest_cr3=0x22000, guest_tag=2, eptp=0x33000)


def word(page, offset, size=8):
    return int.from_bytes(page[offset : offset + size], "little")


def page(first, *, vpid=True, cr4=0x620):
    return svm.vmcb_page(programs.image("l2_svm"), first, cr4=cr4, vpid=vpid)


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
    assert svm.Svm().cr4(pcid=True) ^ svm.Svm().cr4(pcid=False) == 1 << 17
    assert not svm.Svm().cr4(pcid=False) & 1 << 13, "there is no VMXE"


def test_invept_is_refused():
    asked = RoundTrip(host_cr3=0x11000, host_tag=1, eptp=0x33000, actions=Action.INVEPT)
    with pytest.raises(HostRequirementError, match="INVEPT"):
        svm.Svm().place(None, None, None, asked, pcid=False, vpid=True)


@pytest.mark.parametrize(
    ("offered", "program"), [(NestedFormat.SVM, "l1_svm"), (NestedFormat.VMX, "l1_vmx"), (None, "l1_vmx")]
)
def test_what_kvm_offers_decides(monkeypatch, offered, program):
    monkeypatch.setattr(hypervisor, "nested_kind", lambda kvm: offered)
    made = hypervisor.hypervisor(None)
    assert made.program == program
    assert isinstance(made, Vmx) is (program == "l1_vmx")
    assert made.l1_moves_cr3 is (program == "l1_svm"), "HOST_CR3 is VMX's"
    assert {made.program, made.l2_program} <= set(programs.names())


def test_exit_codes_are_the_manuals():
    """APM vol. 2, appendix "SVM Intercept Exit Codes"."""
    reasons = hypervisor.exit_reasons("kvm_amd")
    assert (reasons["VMRUN"], reasons["VMMCALL"], reasons["NPF"], reasons["IOIO"]) == (0x80, 0x81, 0x400, 0x7B)
    assert (reasons["WRITE_CR3"], reasons["EXCEPTION_PF"], reasons["INTR"]) == (0x13, 0x4E, 0x60)


def test_l2_differs_in_its_hypercall_alone():
    vmx, amd = programs.image("l2"), programs.image("l2_svm")
    assert vmx.symbols == amd.symbols
    at = vmx.symbols["hypercall"] - vmx.origin
    assert (vmx.code[at : at + 3], amd.code[at : at + 3]) == (b"\x0f\x01\xc1", b"\x0f\x01\xd9")
    assert vmx.code[:at] + vmx.code[at + 3 :] == amd.code[:at] + amd.code[at + 3 :]
