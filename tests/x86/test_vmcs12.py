from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmharness.x86.registers import LONG_MODE_CR4, Cr4
from kvmharness.x86.vmcs import Field, FieldType
from kvmharness.x86.vmcs12 import VMX_CR4, DescriptorTables, GuestState, HostState, vmcs12
from kvmharness.x86.vmx_controls import MissingControlError, Proc2, VmxCaps
from tests.x86.capabilities import FIRST_VMX, LYNNFIELD, PENRYN, SKYLAKE
from tests.x86.vm_entry_checks import problems

TABLES = DescriptorTables(gdt_base=0x1000, idt_base=0x2000, tss_base=0x3000)
GUEST = GuestState(rip=0x5000, rsp=0x6000, cr3=0x1_0000, tables=TABLES)
HOST = HostState(rip=0x7000, rsp=0x8000, cr3=0x2_0000, tables=TABLES)
EPTP = 0x3_001E
MACHINES = {"skylake": SKYLAKE, "lynnfield": LYNNFIELD, "penryn": PENRYN, "first": FIRST_VMX}


def table(msrs, **kwargs):
    return dict(vmcs12(VmxCaps.from_msrs(msrs), **{"guest": GUEST, "host": HOST} | kwargs))


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("eptp", [None, EPTP])
@pytest.mark.parametrize("vpid", [0, 1])
def test_entry_takes_it(machine, eptp, vpid):
    """Every machine, by the independent checks of the SDM; penryn and older say what they lack."""
    msrs = MACHINES[machine]
    if machine in ("penryn", "first") and (eptp or vpid):
        lacking = "ENABLE_EPT" if eptp else "ENABLE_VPID"
        with pytest.raises(MissingControlError, match=lacking):
            table(msrs, eptp=eptp, vpid=vpid)
        return
    assert problems(table(msrs, eptp=eptp, vpid=vpid), msrs) == []


def test_controls_golden_on_kvm():
    """Composed by hand from the bits of the SDM and the must-be-1 bits of Linux 6.1."""
    fields = table(SKYLAKE, eptp=EPTP, vpid=7)
    assert fields[Field.PIN_BASED_VM_EXEC_CONTROL] == 0x16
    assert fields[Field.CPU_BASED_VM_EXEC_CONTROL] == 0x0400_6172 | 1 << 24 | 1 << 31
    assert fields[Field.SECONDARY_VM_EXEC_CONTROL] == 1 << 1 | 1 << 5
    assert fields[Field.VM_EXIT_CONTROLS] == 0x3_6DFB | 1 << 9 | 1 << 21
    assert fields[Field.VM_ENTRY_CONTROLS] == 0x11FB | 1 << 9 | 1 << 15
    assert fields[Field.EPT_POINTER] == EPTP
    assert fields[Field.VIRTUAL_PROCESSOR_ID] == 7


def test_without_ept_and_vpid_nothing_secondary_is_written():
    fields = table(SKYLAKE)
    assert not fields[Field.CPU_BASED_VM_EXEC_CONTROL] >> 31
    for field in (Field.SECONDARY_VM_EXEC_CONTROL, Field.EPT_POINTER, Field.VIRTUAL_PROCESSOR_ID):
        assert field not in fields


def test_cr3_does_not_exit_where_that_can_be_had():
    both = 1 << 15 | 1 << 16
    assert not table(PENRYN)[Field.CPU_BASED_VM_EXEC_CONTROL] & both
    assert table(FIRST_VMX)[Field.CPU_BASED_VM_EXEC_CONTROL] & both == both


def test_efer_is_written_only_where_it_is_loaded():
    assert table(SKYLAKE)[Field.HOST_IA32_EFER] == 0xD00
    assert Field.GUEST_IA32_EFER not in table(FIRST_VMX)
    assert Field.HOST_IA32_EFER not in table(FIRST_VMX)


def test_state_lands_in_its_fields():
    fields = table(SKYLAKE)
    assert (fields[Field.GUEST_RIP], fields[Field.GUEST_RSP], fields[Field.GUEST_CR3]) == (0x5000, 0x6000, 0x1_0000)
    assert (fields[Field.HOST_RIP], fields[Field.HOST_RSP], fields[Field.HOST_CR3]) == (0x7000, 0x8000, 0x2_0000)
    assert fields[Field.GUEST_CS_AR_BYTES] == 0xA09B
    assert fields[Field.GUEST_TR_AR_BYTES] == 0x8B
    assert (fields[Field.HOST_GDTR_BASE], fields[Field.GUEST_IDTR_LIMIT]) == (0x1000, 511)


def test_in_order_once_and_writable():
    rows = vmcs12(VmxCaps.from_msrs(SKYLAKE), guest=GUEST, host=HOST, eptp=EPTP, vpid=1)
    fields = [field for field, _ in rows]
    assert fields == sorted(set(fields))
    assert not any(field.type is FieldType.READ_ONLY for field in fields)


def test_further_secondary_controls():
    assert table(SKYLAKE, proc2=Proc2.ENABLE_INVPCID)[Field.SECONDARY_VM_EXEC_CONTROL] == 1 << 12
    with pytest.raises(MissingControlError, match="ENABLE_INVPCID"):
        table(LYNNFIELD, proc2=Proc2.ENABLE_INVPCID)


def test_pcid():
    guest = replace(GUEST, cr3=0x1_0005, cr4=int(VMX_CR4 | Cr4.PCIDE))
    fields = table(SKYLAKE, guest=guest)
    assert fields[Field.GUEST_CR3] == 0x1_0005
    assert problems(fields, SKYLAKE) == []
    with pytest.raises(MissingControlError, match=r"L2's CR4 .*PCIDE"):
        table(PENRYN, guest=guest)


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"vpid": 0x10000}, "VPID"),
        ({"eptp": 0x3_0000}, "EPTP"),
        ({"eptp": 0x3_009E}, "EPTP"),
        ({"guest": replace(GUEST, cr3=1 << 63 | 0x1000)}, "L2's CR3"),
        ({"guest": replace(GUEST, cr4=int(LONG_MODE_CR4))}, "L2's CR4 .*VMXE"),
        ({"guest": replace(GUEST, rflags=0)}, "RFLAGS"),
        ({"guest": replace(GUEST, rip=1 << 47)}, "L2's .*canonical"),
        ({"host": replace(HOST, cr0=0x8000_0011)}, "L1's CR0 .*NE"),
        ({"host": replace(HOST, cr3=1 << 52)}, "L1's CR3"),
        ({"host": replace(HOST, efer=0)}, "L1's control registers"),
        ({"host": replace(HOST, rsp=1 << 64)}, "HOST_RSP.*64 bits"),
    ],
)
def test_refuses_what_entry_would_refuse(kwargs, text):
    with pytest.raises((ValueError, MissingControlError), match=text):
        table(SKYLAKE, **kwargs)


# A bit that is wrong in one field each: the independent checks must be able to fail, or the tests above say nothing.
@pytest.mark.parametrize(
    ("field", "bits"),
    [
        (Field.PIN_BASED_VM_EXEC_CONTROL, 1 << 1),
        (Field.CPU_BASED_VM_EXEC_CONTROL, 1 << 28),
        (Field.SECONDARY_VM_EXEC_CONTROL, 1 << 31),
        (Field.VM_EXIT_CONTROLS, 1 << 9),
        (Field.VM_ENTRY_CONTROLS, 1 << 9),
        (Field.EPT_POINTER, 1 << 3),
        (Field.VIRTUAL_PROCESSOR_ID, 1),
        (Field.VMCS_LINK_POINTER, 1),
        (Field.GUEST_CR0, 1 << 5),
        (Field.GUEST_CR4, 1 << 13),
        (Field.GUEST_RFLAGS, 1 << 1),
        (Field.GUEST_CS_AR_BYTES, 1 << 13),
        (Field.GUEST_CS_AR_BYTES, 1 << 5),
        (Field.GUEST_SS_AR_BYTES, 1 << 1),
        (Field.GUEST_DS_LIMIT, 1),
        (Field.GUEST_TR_AR_BYTES, 1 << 1),
        (Field.GUEST_LDTR_AR_BYTES, 1 << 16),
        (Field.GUEST_IA32_EFER, 1 << 10),
        (Field.HOST_CR4, 1 << 5),
        (Field.HOST_CS_SELECTOR, 8),
        (Field.HOST_TR_SELECTOR, 3),
        (Field.HOST_IA32_EFER, 1 << 8),
    ],
)
def test_the_checks_see_a_wrong_bit(field, bits):
    fields = table(SKYLAKE, eptp=EPTP, vpid=1)
    fields[field] ^= bits
    assert problems(fields, SKYLAKE)


@pytest.mark.parametrize("field", [Field.GUEST_RIP, Field.HOST_CR3, Field.GUEST_LDTR_AR_BYTES, Field.EXCEPTION_BITMAP])
def test_the_checks_see_a_field_never_written(field):
    fields = table(SKYLAKE)
    del fields[field]
    assert any("never written" in text for text in problems(fields, SKYLAKE))


@given(st.data())
def test_any_capabilities(data):
    """Whatever a VMX demands beyond the default1 bits and offers beyond what is needed, entry takes the table."""
    msrs = dict(SKYLAKE)
    for index in (0x48D, 0x48E, 0x48F, 0x490):
        offered = msrs[index] >> 32
        # Bits that bring a duty of their own (addresses to write, other controls to set) are never demanded.
        harmless = offered & {0x48D: 0x1F, 0x48E: 0x4001_9E84, 0x48F: 0x8004, 0x490: 0x4}[index]
        msrs[index] |= data.draw(st.integers(0, (1 << 32) - 1)) & harmless
    eptp = data.draw(st.sampled_from([None, EPTP, EPTP | 1 << 6]))
    vpid = data.draw(st.integers(0, 0xFFFF))
    assert problems(table(msrs, eptp=eptp, vpid=vpid), msrs) == []
