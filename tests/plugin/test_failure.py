"""What is shown of a guest: code, the nested state and the VMCS12, from bytes that are known."""

import struct
from itertools import pairwise

import pytest

from kvmharness.kvm import nested_state
from kvmharness.testing.failure import render
from kvmharness.x86.vmcs import Field

# Linux 6.1, arch/x86/kvm/vmx/vmcs12.h, vmx_check_vmcs12_offsets(): some of each run, its ends above all.
OFFSETS = {
    "IO_BITMAP_A": 40,
    "POSTED_INTR_DESC_ADDR": 112,
    "EPT_POINTER": 120,
    "XSS_EXIT_BITMAP": 160,
    "GUEST_PHYSICAL_ADDRESS": 168,
    "GUEST_IA32_EFER": 200,
    "GUEST_BNDCFGS": 248,
    "VMWRITE_BITMAP": 288,
    "TSC_MULTIPLIER": 328,
    "CR0_GUEST_HOST_MASK": 344,
    "CR4_READ_SHADOW": 368,
    "EXIT_QUALIFICATION": 408,
    "GUEST_CR3": 432,
    "GUEST_GDTR_BASE": 512,
    "GUEST_RIP": 544,
    "HOST_CR3": 592,
    "HOST_RIP": 672,
    "PIN_BASED_VM_EXEC_CONTROL": 744,
    "SECONDARY_VM_EXEC_CONTROL": 804,
    "VM_EXIT_REASON": 812,
    "VMX_INSTRUCTION_INFO": 836,
    "GUEST_ES_LIMIT": 840,
    "GUEST_GDTR_LIMIT": 872,
    "GUEST_TR_AR_BYTES": 908,
    "HOST_IA32_SYSENTER_CS": 924,
    "VMX_PREEMPTION_TIMER_VALUE": 928,
    "VIRTUAL_PROCESSOR_ID": 960,
    "GUEST_TR_SELECTOR": 978,
    "HOST_TR_SELECTOR": 994,
    "GUEST_PML_INDEX": 996,
}
WIDTHS = {0: 2, 1: 8, 2: 4, 3: 8}  # SDM vol. 3D, "Field Encoding in VMCS": bits 14:13


@pytest.mark.parametrize(("name", "offset"), OFFSETS.items())
def test_fields_lie_where_the_kernel_asserts_them(name, offset):
    assert nested_state.offsets()[Field[name]][0] == offset


def test_every_field_has_a_place_of_its_width_and_none_overlap():
    places = nested_state.offsets()
    assert set(places) == set(Field)
    for field, (_, length) in places.items():
        assert length == WIDTHS[int(field) >> 13 & 3], field
    ends = sorted((at, at + length) for at, length in places.values())
    assert all(end <= start for (_, end), (start, _) in pairwise(ends))


def blob(*, flags=1, vmxon=0x5000, vmcs12=0x6000, page=b""):
    return struct.pack("<HHIQQHHIQ", flags, 0, 128 + len(page), vmxon, vmcs12, 0, 0, 0, 0).ljust(128, b"\0") + page


def test_a_nested_state_in_guest_mode():
    page = bytearray(0x1000)
    page[432:440] = (0x101000).to_bytes(8, "little")
    page[812:816] = (48).to_bytes(4, "little")
    state = nested_state.decode(blob(page=bytes(page)))
    assert str(state) == "format VMX, flags GUEST_MODE, VMXON region at gpa 0x5000, VMCS12 at gpa 0x6000"
    assert state.vmcs12[Field.GUEST_CR3] == 0x101000
    loaded = {int(Field.GUEST_CR3): 0x102000, int(Field.HOST_CR3): 0}
    assert nested_state.differences(loaded, state.vmcs12) == [
        (Field.VM_EXIT_REASON, 0, 48),
        (Field.GUEST_CR3, 0x102000, 0x101000),
    ]


def test_a_guest_that_is_no_hypervisor():
    nothing = (1 << 64) - 1
    state = nested_state.decode(blob(flags=0, vmxon=nothing, vmcs12=nothing))
    assert (state.vmxon_pa, state.vmcs12_pa, state.vmcs12) == (None, None, None)


def test_a_state_cut_short_is_refused():
    with pytest.raises(ValueError, match="of 100 bytes"):
        nested_state.decode(bytes(100))


def test_code_from_an_emulated_host_is_disassembled_here():
    pytest.importorskip("capstone")
    text = "vCPU 0\n  code: 64 bit, from 0x10000, RIP 0x10005: b8 01 00 00 00 0f 0b 90\nmore"
    assert render(text).splitlines() == [
        "vCPU 0",
        "     0x10000  mov eax, 1",
        "  => 0x10005  ud2",
        "     0x10007  nop",
        "more",
    ]
