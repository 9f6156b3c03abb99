import pytest

from kvmharness.errors import ExitCode, HostRequirementError
from kvmharness.x86.ept import Eptp, MemoryType
from kvmharness.x86.vmx_controls import (
    Entry,
    Exit,
    MissingControlError,
    Pin,
    Proc,
    Proc2,
    VmxCaps,
    adjust,
    fixed_bits_conflict,
)
from tests.x86.capabilities import FIRST_VMX, LYNNFIELD, PENRYN, SKYLAKE

# Bit positions from the SDM's tables of control definitions.
SDM_BITS = [
    (Pin.EXTERNAL_INTERRUPT_EXITING, 0),
    (Pin.NMI_EXITING, 3),
    (Pin.VIRTUAL_NMIS, 5),
    (Pin.PREEMPTION_TIMER, 6),
    (Proc.HLT_EXITING, 7),
    (Proc.INVLPG_EXITING, 9),
    (Proc.RDTSC_EXITING, 12),
    (Proc.CR3_LOAD_EXITING, 15),
    (Proc.CR3_STORE_EXITING, 16),
    (Proc.TPR_SHADOW, 21),
    (Proc.UNCONDITIONAL_IO_EXITING, 24),
    (Proc.USE_IO_BITMAPS, 25),
    (Proc.USE_MSR_BITMAPS, 28),
    (Proc.SECONDARY_CONTROLS, 31),
    (Proc2.ENABLE_EPT, 1),
    (Proc2.ENABLE_RDTSCP, 3),
    (Proc2.ENABLE_VPID, 5),
    (Proc2.UNRESTRICTED_GUEST, 7),
    (Proc2.ENABLE_INVPCID, 12),
    (Proc2.VMCS_SHADOWING, 14),
    (Proc2.ENABLE_PML, 17),
    (Proc2.USE_TSC_SCALING, 25),
    (Exit.SAVE_DEBUG_CONTROLS, 2),
    (Exit.HOST_ADDRESS_SPACE_SIZE, 9),
    (Exit.LOAD_PAT, 19),
    (Exit.LOAD_EFER, 21),
    (Entry.LOAD_DEBUG_CONTROLS, 2),
    (Entry.IA32E_MODE_GUEST, 9),
    (Entry.LOAD_PAT, 14),
    (Entry.LOAD_EFER, 15),
]


@pytest.mark.parametrize(("control", "bit"), SDM_BITS, ids=[str(row[0]) for row in SDM_BITS])
def test_bits_golden(control, bit):
    assert int(control) == 1 << bit


def test_adjust_adds_what_is_demanded():
    assert adjust(Proc.HLT_EXITING, SKYLAKE[0x48E]) == 0x0400_6172 | 1 << 7
    assert adjust(Pin(0), SKYLAKE[0x48D]) == 0x16


def test_adjust_names_what_is_lacking():
    with pytest.raises(MissingControlError, match="Proc2 control ENABLE_EPT, ENABLE_VPID") as caught:
        adjust(Proc2.ENABLE_EPT | Proc2.ENABLE_VPID | Proc2.VMCS_SHADOWING, PENRYN[0x48B])
    assert caught.value.exit_code == ExitCode.SKIPPED
    assert caught.value.hint


def test_caps_of_kvm():
    caps = VmxCaps.from_msrs(SKYLAKE)
    assert caps.revision == 0x11E57ED0
    assert (caps.pin, caps.proc, caps.exit, caps.entry) == tuple(SKYLAKE[i] for i in (0x48D, 0x48E, 0x48F, 0x490))
    assert (caps.cr0_fixed0, caps.cr4_fixed1) == (SKYLAKE[0x486], SKYLAKE[0x489])


def test_caps_without_true_msrs():
    caps = VmxCaps.from_msrs(FIRST_VMX)
    assert caps.proc == FIRST_VMX[0x482]
    assert caps.proc2 == 0


def test_caps_without_ept_need_no_ept_msr():
    caps = VmxCaps.from_msrs(PENRYN)
    assert caps.ept_vpid == 0


@pytest.mark.parametrize("index", [0x480, 0x48D, 0x48B, 0x48C, 0x485, 0x486, 0x489])
def test_a_missing_msr_is_named(index):
    msrs = {key: value for key, value in SKYLAKE.items() if key != index}
    with pytest.raises(HostRequirementError, match=f"{index:#x}"):
        VmxCaps.from_msrs(msrs)


def test_eptp_against_the_capability():
    caps = VmxCaps.from_msrs(LYNNFIELD)
    assert caps.check_eptp(0x101E) == Eptp(0x1000)
    with pytest.raises(MissingControlError, match="ACCESS_DIRTY"):
        caps.check_eptp(Eptp(0x1000, access_dirty=True).value)
    with pytest.raises(MissingControlError, match="MEMORY_TYPE_UC"):
        caps.check_eptp(Eptp(0x1000, MemoryType.UC).value)
    with pytest.raises(MissingControlError, match="WALK_5"):
        caps.check_eptp(Eptp(0x1000, walk_levels=5).value)
    assert VmxCaps.from_msrs(SKYLAKE).check_eptp(0x105E).access_dirty


def test_fixed_bits():
    assert fixed_bits_conflict(0b0110, fixed0=0b0010, fixed1=0b0111) == 0
    assert fixed_bits_conflict(0b1100, fixed0=0b0010, fixed1=0b0111) == 0b1010


def test_control_registers_against_the_fixed_bits():
    caps = VmxCaps.from_msrs(PENRYN)
    caps.check_control_registers("L1's", 0x8000_0033, 0x2020)
    with pytest.raises(ValueError, match=r"L1's CR0 .*NE"):
        caps.check_control_registers("L1's", 0x8000_0013, 0x2020)
    with pytest.raises(ValueError, match="VMXE"):
        caps.check_control_registers("L1's", 0x8000_0033, 0x20)
    with pytest.raises(MissingControlError, match="PCIDE"):
        caps.check_control_registers("L1's", 0x8000_0033, 0x2_2020)
