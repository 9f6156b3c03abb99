"""Indices of the model-specific registers that the harness reads or sets.

Source: SDM vol. 4, "Architectural MSRs"; APM vol. 2, "SVM Related MSRs". The names are the SDM's without the IA32_
prefix where nothing is lost.
"""

from enum import IntEnum, IntFlag


class Msr(IntEnum):
    """An MSR's index, as RDMSR takes it in ECX and KVM_GET_MSRS in `index`."""

    TSC = 0x10
    APIC_BASE = 0x1B
    FEATURE_CONTROL = 0x3A
    TSC_ADJUST = 0x3B
    SPEC_CTRL = 0x48
    BIOS_SIGN_ID = 0x8B  # the microcode revision
    ARCH_CAPABILITIES = 0x10A
    SYSENTER_CS = 0x174
    SYSENTER_ESP = 0x175
    SYSENTER_EIP = 0x176
    MISC_ENABLE = 0x1A0
    DEBUGCTL = 0x1D9
    PAT = 0x277
    PERF_GLOBAL_CTRL = 0x38F
    VMX_BASIC = 0x480
    VMX_PINBASED_CTLS = 0x481
    VMX_PROCBASED_CTLS = 0x482
    VMX_EXIT_CTLS = 0x483
    VMX_ENTRY_CTLS = 0x484
    VMX_MISC = 0x485
    VMX_CR0_FIXED0 = 0x486
    VMX_CR0_FIXED1 = 0x487
    VMX_CR4_FIXED0 = 0x488
    VMX_CR4_FIXED1 = 0x489
    VMX_VMCS_ENUM = 0x48A
    VMX_PROCBASED_CTLS2 = 0x48B
    VMX_EPT_VPID_CAP = 0x48C
    VMX_TRUE_PINBASED_CTLS = 0x48D
    VMX_TRUE_PROCBASED_CTLS = 0x48E
    VMX_TRUE_EXIT_CTLS = 0x48F
    VMX_TRUE_ENTRY_CTLS = 0x490
    VMX_VMFUNC = 0x491
    TSC_DEADLINE = 0x6E0
    XSS = 0xDA0
    EFER = 0xC000_0080
    STAR = 0xC000_0081
    LSTAR = 0xC000_0082
    CSTAR = 0xC000_0083
    FMASK = 0xC000_0084
    FS_BASE = 0xC000_0100
    GS_BASE = 0xC000_0101
    KERNEL_GS_BASE = 0xC000_0102
    TSC_AUX = 0xC000_0103
    VM_HSAVE_PA = 0xC001_0117  # AMD only


class FeatureControl(IntFlag):
    """IA32_FEATURE_CONTROL: firmware's say over VMX. VMXON needs LOCKED and VMX_OUTSIDE_SMX.

    Source: SDM vol. 3C, "Enabling and Entering VMX Operation".
    """

    LOCKED = 1 << 0
    VMX_IN_SMX = 1 << 1
    VMX_OUTSIDE_SMX = 1 << 2


PAT_RESET = 0x0007_0406_0007_0406
"""IA32_PAT after reset: WB, WT, UC-, UC, twice. Source: SDM vol. 3A, "Programming the PAT"."""

VMX_CAPABILITIES = tuple(range(Msr.VMX_BASIC, Msr.VMX_VMFUNC + 1))
"""The VMX capability MSRs. Source: SDM vol. 3D, appendix "VMX Capability Reporting Facility"."""
