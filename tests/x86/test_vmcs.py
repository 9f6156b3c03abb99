import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmharness.x86.vmcs import Field, FieldType, FieldWidth, check_value, encode

CONTROL, READ_ONLY, GUEST, HOST = FieldType
W16, W64, W32, NATURAL = FieldWidth

# From SDM vol. 3D, appendix "Field Encoding in VMCS": the encoding in binary columns as printed there,
# (index, type, width), the first and last of each table that KVM has and those the harness depends on.
SDM = [
    ("VIRTUAL_PROCESSOR_ID", 0x0000, W16, CONTROL),
    ("GUEST_ES_SELECTOR", 0x0800, W16, GUEST),
    ("GUEST_TR_SELECTOR", 0x080E, W16, GUEST),
    ("GUEST_PML_INDEX", 0x0812, W16, GUEST),
    ("HOST_ES_SELECTOR", 0x0C00, W16, HOST),
    ("HOST_CS_SELECTOR", 0x0C02, W16, HOST),
    ("HOST_TR_SELECTOR", 0x0C0C, W16, HOST),
    ("IO_BITMAP_A", 0x2000, W64, CONTROL),
    ("MSR_BITMAP", 0x2004, W64, CONTROL),
    ("TSC_OFFSET", 0x2010, W64, CONTROL),
    ("EPT_POINTER", 0x201A, W64, CONTROL),
    ("TSC_MULTIPLIER", 0x2032, W64, CONTROL),
    ("GUEST_PHYSICAL_ADDRESS", 0x2400, W64, READ_ONLY),
    ("VMCS_LINK_POINTER", 0x2800, W64, GUEST),
    ("GUEST_IA32_EFER", 0x2806, W64, GUEST),
    ("GUEST_PDPTR3", 0x2810, W64, GUEST),
    ("HOST_IA32_PAT", 0x2C00, W64, HOST),
    ("HOST_IA32_EFER", 0x2C02, W64, HOST),
    ("PIN_BASED_VM_EXEC_CONTROL", 0x4000, W32, CONTROL),
    ("CPU_BASED_VM_EXEC_CONTROL", 0x4002, W32, CONTROL),
    ("EXCEPTION_BITMAP", 0x4004, W32, CONTROL),
    ("CR3_TARGET_COUNT", 0x400A, W32, CONTROL),
    ("VM_EXIT_CONTROLS", 0x400C, W32, CONTROL),
    ("VM_ENTRY_CONTROLS", 0x4012, W32, CONTROL),
    ("VM_ENTRY_INTR_INFO_FIELD", 0x4016, W32, CONTROL),
    ("SECONDARY_VM_EXEC_CONTROL", 0x401E, W32, CONTROL),
    ("VM_INSTRUCTION_ERROR", 0x4400, W32, READ_ONLY),
    ("VM_EXIT_REASON", 0x4402, W32, READ_ONLY),
    ("VM_EXIT_INSTRUCTION_LEN", 0x440C, W32, READ_ONLY),
    ("VMX_INSTRUCTION_INFO", 0x440E, W32, READ_ONLY),
    ("GUEST_ES_LIMIT", 0x4800, W32, GUEST),
    ("GUEST_IDTR_LIMIT", 0x4812, W32, GUEST),
    ("GUEST_CS_AR_BYTES", 0x4816, W32, GUEST),
    ("GUEST_TR_AR_BYTES", 0x4822, W32, GUEST),
    ("GUEST_ACTIVITY_STATE", 0x4826, W32, GUEST),
    ("GUEST_SYSENTER_CS", 0x482A, W32, GUEST),
    ("VMX_PREEMPTION_TIMER_VALUE", 0x482E, W32, GUEST),
    ("HOST_IA32_SYSENTER_CS", 0x4C00, W32, HOST),
    ("CR0_GUEST_HOST_MASK", 0x6000, NATURAL, CONTROL),
    ("CR4_READ_SHADOW", 0x6006, NATURAL, CONTROL),
    ("EXIT_QUALIFICATION", 0x6400, NATURAL, READ_ONLY),
    ("GUEST_LINEAR_ADDRESS", 0x640A, NATURAL, READ_ONLY),
    ("GUEST_CR0", 0x6800, NATURAL, GUEST),
    ("GUEST_CR3", 0x6802, NATURAL, GUEST),
    ("GUEST_DR7", 0x681A, NATURAL, GUEST),
    ("GUEST_RSP", 0x681C, NATURAL, GUEST),
    ("GUEST_RIP", 0x681E, NATURAL, GUEST),
    ("GUEST_RFLAGS", 0x6820, NATURAL, GUEST),
    ("GUEST_SYSENTER_EIP", 0x6826, NATURAL, GUEST),
    ("HOST_CR0", 0x6C00, NATURAL, HOST),
    ("HOST_CR3", 0x6C02, NATURAL, HOST),
    ("HOST_TR_BASE", 0x6C0A, NATURAL, HOST),
    ("HOST_IDTR_BASE", 0x6C0E, NATURAL, HOST),
    ("HOST_RSP", 0x6C14, NATURAL, HOST),
    ("HOST_RIP", 0x6C16, NATURAL, HOST),
]


@pytest.mark.parametrize(("name", "encoding", "width", "kind"), SDM, ids=[row[0] for row in SDM])
def test_encoding_golden(name, encoding, width, kind):
    field = Field[name]
    assert (int(field), field.width, field.type) == (encoding, width, kind)


def test_all_fields_of_kvms_vmcs12():
    """141 FIELD and FIELD64 lines in vmcs12.c of Linux 6.1; the CR3-target values are not among them."""
    assert len(Field) == 141
    assert not any("CR3_TARGET_VALUE" in field.name for field in Field)


@pytest.mark.parametrize("field", Field, ids=lambda field: field.name)
def test_name_and_area_agree(field):
    assert not field & 0x9001  # bits 12 and 15 are reserved, bit 0 is the high half
    if field.name.startswith("HOST_"):
        assert field.type is HOST
    elif field.name.startswith("GUEST_") and field.name not in ("GUEST_PHYSICAL_ADDRESS", "GUEST_LINEAR_ADDRESS"):
        assert field.type is GUEST
    else:
        assert field.type is not HOST
    if field.name.endswith("_SELECTOR"):
        assert field.width is W16
    if field.name.endswith(("_LIMIT", "_AR_BYTES")):
        assert field.width is W32
    if field.name.endswith("_BASE"):
        assert field.width is NATURAL


@given(st.sampled_from(list(Field)))
def test_encode_is_the_opposite_of_decode(field):
    assert encode(field.width, field.type, field.index) == field


def test_high_half():
    assert Field.EPT_POINTER.high == 0x201B
    with pytest.raises(ValueError, match="64-bit"):
        _ = Field.GUEST_CR3.high
    with pytest.raises(ValueError, match="511"):
        encode(W16, GUEST, 512)


@pytest.mark.parametrize(("field", "bits"), [(Field.VIRTUAL_PROCESSOR_ID, 16), (Field.GUEST_CS_LIMIT, 32)])
def test_too_wide_a_value_is_refused(field, bits):
    assert check_value(field, (1 << bits) - 1) == (1 << bits) - 1
    for value in (1 << bits, -1):
        with pytest.raises(ValueError, match=f"{field.name}.*{bits} bits"):
            check_value(field, value)
