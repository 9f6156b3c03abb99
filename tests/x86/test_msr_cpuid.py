import pytest

from kvmharness.x86.cpuid import Feature, Registers, vendor
from kvmharness.x86.msr import VMX_CAPABILITIES, FeatureControl, Msr


@pytest.mark.parametrize(
    ("msr", "index"),
    [
        (Msr.TSC, 0x10),
        (Msr.FEATURE_CONTROL, 0x3A),
        (Msr.PAT, 0x277),
        (Msr.VMX_BASIC, 0x480),
        (Msr.VMX_PROCBASED_CTLS2, 0x48B),
        (Msr.VMX_EPT_VPID_CAP, 0x48C),
        (Msr.VMX_TRUE_PINBASED_CTLS, 0x48D),
        (Msr.VMX_TRUE_ENTRY_CTLS, 0x490),
        (Msr.EFER, 0xC0000080),
        (Msr.KERNEL_GS_BASE, 0xC0000102),
    ],
)
def test_msr_golden(msr, index):
    """SDM vol. 4, table "IA-32 Architectural MSRs"."""
    assert msr == index


def test_vmx_capabilities_are_eighteen_msrs():
    assert list(VMX_CAPABILITIES) == list(range(0x480, 0x492))


def test_feature_control_golden():
    assert int(FeatureControl.LOCKED | FeatureControl.VMX_OUTSIDE_SMX) == 5


@pytest.mark.parametrize(
    ("feature", "leaf", "register", "bit"),
    [
        (Feature.VMX, 1, "ecx", 5),
        (Feature.PCID, 1, "ecx", 17),
        (Feature.HYPERVISOR, 1, "ecx", 31),
        (Feature.INVPCID, 7, "ebx", 10),
        (Feature.LONG_MODE, 0x80000001, "edx", 29),
        (Feature.NX, 0x80000001, "edx", 20),
        (Feature.SVM, 0x80000001, "ecx", 2),
        (Feature.NPT, 0x8000000A, "edx", 0),
    ],
)
def test_cpuid_golden(feature, leaf, register, bit):
    assert (feature.leaf, feature.subleaf, feature.register, feature.bit) == (leaf, 0, register, bit)


def test_cpuid_answers():
    leaf0 = Registers(0x16, 0x756E6547, 0x6C65746E, 0x49656E69)
    assert vendor(leaf0) == "GenuineIntel"
    leaf1 = Registers(0, 0, 1 << 5, 0)
    assert leaf1.has(Feature.VMX)
    assert not leaf1.has(Feature.PCID)
