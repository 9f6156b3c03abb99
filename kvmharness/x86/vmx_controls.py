"""VMX control bits, what a vCPU allows of them, and the fixed bits of CR0 and CR4.

Source: SDM vol. 3C, "VM-Execution Control Fields", "VM-Exit Controls", "VM-Entry Controls"; vol. 3D, appendix
"VMX Capability Reporting Facility".
"""

from collections.abc import Mapping
from enum import IntFlag

from kvmharness.errors import HostRequirementError
from kvmharness.lean.dataclasses import dataclass
from kvmharness.x86.ept import Eptp, MemoryType
from kvmharness.x86.msr import Msr
from kvmharness.x86.registers import Cr0, Cr4


class MissingControlError(HostRequirementError):
    """The vCPU's VMX does not offer what was asked for."""


class Pin(IntFlag):
    """Pin-based VM-execution controls."""

    EXTERNAL_INTERRUPT_EXITING = 1 << 0
    NMI_EXITING = 1 << 3
    VIRTUAL_NMIS = 1 << 5
    PREEMPTION_TIMER = 1 << 6
    POSTED_INTERRUPTS = 1 << 7


class Proc(IntFlag):
    """Primary processor-based VM-execution controls."""

    INTERRUPT_WINDOW_EXITING = 1 << 2
    USE_TSC_OFFSETTING = 1 << 3
    HLT_EXITING = 1 << 7
    INVLPG_EXITING = 1 << 9
    MWAIT_EXITING = 1 << 10
    RDPMC_EXITING = 1 << 11
    RDTSC_EXITING = 1 << 12
    CR3_LOAD_EXITING = 1 << 15
    CR3_STORE_EXITING = 1 << 16
    TERTIARY_CONTROLS = 1 << 17
    CR8_LOAD_EXITING = 1 << 19
    CR8_STORE_EXITING = 1 << 20
    TPR_SHADOW = 1 << 21
    NMI_WINDOW_EXITING = 1 << 22
    MOV_DR_EXITING = 1 << 23
    UNCONDITIONAL_IO_EXITING = 1 << 24
    USE_IO_BITMAPS = 1 << 25
    MONITOR_TRAP_FLAG = 1 << 27
    USE_MSR_BITMAPS = 1 << 28
    MONITOR_EXITING = 1 << 29
    PAUSE_EXITING = 1 << 30
    SECONDARY_CONTROLS = 1 << 31


class Proc2(IntFlag):
    """Secondary processor-based VM-execution controls."""

    VIRTUALIZE_APIC_ACCESSES = 1 << 0
    ENABLE_EPT = 1 << 1
    DESCRIPTOR_TABLE_EXITING = 1 << 2
    ENABLE_RDTSCP = 1 << 3
    VIRTUALIZE_X2APIC = 1 << 4
    ENABLE_VPID = 1 << 5
    WBINVD_EXITING = 1 << 6
    UNRESTRICTED_GUEST = 1 << 7
    APIC_REGISTER_VIRTUALIZATION = 1 << 8
    VIRTUAL_INTERRUPT_DELIVERY = 1 << 9
    PAUSE_LOOP_EXITING = 1 << 10
    RDRAND_EXITING = 1 << 11
    ENABLE_INVPCID = 1 << 12
    ENABLE_VMFUNC = 1 << 13
    VMCS_SHADOWING = 1 << 14
    ENCLS_EXITING = 1 << 15
    RDSEED_EXITING = 1 << 16
    ENABLE_PML = 1 << 17
    EPT_VIOLATION_VE = 1 << 18
    CONCEAL_VMX_FROM_PT = 1 << 19
    ENABLE_XSAVES = 1 << 20
    MODE_BASED_EXECUTE_FOR_EPT = 1 << 22
    PT_USES_GPA = 1 << 24
    USE_TSC_SCALING = 1 << 25
    ENABLE_USER_WAIT = 1 << 26


class Exit(IntFlag):
    """VM-exit controls."""

    SAVE_DEBUG_CONTROLS = 1 << 2
    HOST_ADDRESS_SPACE_SIZE = 1 << 9  # 64-bit host
    LOAD_PERF_GLOBAL_CTRL = 1 << 12
    ACKNOWLEDGE_INTERRUPT = 1 << 15
    SAVE_PAT = 1 << 18
    LOAD_PAT = 1 << 19
    SAVE_EFER = 1 << 20
    LOAD_EFER = 1 << 21
    SAVE_PREEMPTION_TIMER = 1 << 22
    CLEAR_BNDCFGS = 1 << 23


class Entry(IntFlag):
    """VM-entry controls."""

    LOAD_DEBUG_CONTROLS = 1 << 2
    IA32E_MODE_GUEST = 1 << 9
    ENTRY_TO_SMM = 1 << 10
    DEACTIVATE_DUAL_MONITOR = 1 << 11
    LOAD_PERF_GLOBAL_CTRL = 1 << 13
    LOAD_PAT = 1 << 14
    LOAD_EFER = 1 << 15
    LOAD_BNDCFGS = 1 << 16


class EptVpidCap(IntFlag):
    """IA32_VMX_EPT_VPID_CAP."""

    EXECUTE_ONLY = 1 << 0
    WALK_4 = 1 << 6
    WALK_5 = 1 << 7
    MEMORY_TYPE_UC = 1 << 8
    MEMORY_TYPE_WB = 1 << 14
    PAGE_2M = 1 << 16
    PAGE_1G = 1 << 17
    INVEPT = 1 << 20
    ACCESS_DIRTY = 1 << 21
    INVEPT_SINGLE = 1 << 25
    INVEPT_ALL = 1 << 26
    INVVPID = 1 << 32
    INVVPID_ADDRESS = 1 << 40
    INVVPID_SINGLE = 1 << 41
    INVVPID_ALL = 1 << 42
    INVVPID_SINGLE_RETAINING_GLOBALS = 1 << 43


BASIC_REVISION_MASK = (1 << 31) - 1
BASIC_TRUE_CONTROLS = 1 << 55


def adjust(wanted: IntFlag, capability: int) -> int:
    """The value of a control field: what is wanted, and the bits that the vCPU demands.

    Args:
        wanted: control bits that must be 1.
        capability: the (TRUE) capability MSR: low half = must be 1, high half = may be 1.

    Raises:
        MissingControlError: a wanted bit may not be 1.
    """
    must, may = capability & 0xFFFF_FFFF, capability >> 32
    lacking = int(wanted) & ~may
    if lacking:
        kind = type(wanted)
        names = [bit.name or hex(bit) for bit in kind if bit & lacking] or [hex(lacking)]
        raise MissingControlError(
            f"this vCPU's VMX lacks {kind.__name__} control {', '.join(names)} (capability MSR {capability:#x})",
            "use a workload that does not need it, or a host whose processor and KVM have it",
        )
    return int(wanted) | must


def has_control(control: IntFlag, capability: int) -> bool:
    """Whether all these bits may be 1."""
    return not int(control) & ~(capability >> 32)


def fixed_bits_conflict(value: int, fixed0: int, fixed1: int) -> int:
    """The bits of a CR0 or CR4 value that are not allowed in VMX operation, or 0.

    Source: SDM vol. 3D, appendix "VMX-Fixed Bits in CR0": 1 in FIXED0 = must be 1, 0 in FIXED1 = must be 0.
    """
    return (fixed0 & ~value) | (value & ~fixed1)


@dataclass(frozen=True, slots=True)
class VmxCaps:
    """What a vCPU's VMX offers, in the form of its capability MSRs (the TRUE ones where they exist).

    `proc2` is 0 without secondary controls, and `ept_vpid` is 0 without EPT and VPID.
    """

    basic: int
    pin: int
    proc: int
    exit: int
    entry: int
    proc2: int
    ept_vpid: int
    misc: int
    cr0_fixed0: int
    cr0_fixed1: int
    cr4_fixed0: int
    cr4_fixed1: int

    @classmethod
    def from_msrs(cls, msrs: Mapping[int, int]) -> "VmxCaps":
        """Picks the capability MSRs out of what KVM_GET_MSRS gave.

        Read them from the vCPU after KVM_SET_CPUID2: KVM narrows CR4_FIXED1 and the secondary controls to the CPUID
        bits that the guest was given.

        Raises:
            HostRequirementError: an MSR is missing: this vCPU has no VMX.
        """

        def need(msr: Msr) -> int:
            if msr not in msrs:
                raise HostRequirementError(
                    f"KVM gave no value for MSR IA32_{msr.name} ({msr:#x}): this vCPU has no VMX",
                    "load KVM with nested=1 on a processor with VMX, or use an emulated host",
                )
            return msrs[msr]

        basic = need(Msr.VMX_BASIC)
        shift = Msr.VMX_TRUE_PINBASED_CTLS - Msr.VMX_PINBASED_CTLS if basic & BASIC_TRUE_CONTROLS else 0
        pin, proc, exits, entry = (need(Msr(Msr.VMX_PINBASED_CTLS + shift + i)) for i in range(4))
        proc2 = need(Msr.VMX_PROCBASED_CTLS2) if has_control(Proc.SECONDARY_CONTROLS, proc) else 0
        needs_cap = (Proc2.ENABLE_EPT | Proc2.ENABLE_VPID) & (proc2 >> 32)
        fixed = (need(Msr(Msr.VMX_CR0_FIXED0 + i)) for i in range(4))
        ept_vpid = need(Msr.VMX_EPT_VPID_CAP) if needs_cap else 0
        return cls(basic, pin, proc, exits, entry, proc2, ept_vpid, need(Msr.VMX_MISC), *fixed)

    @property
    def revision(self) -> int:
        """The VMCS revision identifier that starts every VMXON and VMCS region."""
        return self.basic & BASIC_REVISION_MASK

    def check_eptp(self, value: int) -> Eptp:
        """Decodes an EPTP, and checks that VM entry would take it.

        Raises:
            ValueError: it is malformed.
            MissingControlError: well formed, but it asks for what this vCPU lacks.
        """
        eptp = Eptp.decode(value)
        wanted = EptVpidCap.WALK_4 if eptp.walk_levels == 4 else EptVpidCap.WALK_5
        wanted |= EptVpidCap.MEMORY_TYPE_WB if eptp.memory_type is MemoryType.WB else EptVpidCap.MEMORY_TYPE_UC
        if eptp.access_dirty:
            wanted |= EptVpidCap.ACCESS_DIRTY
        lacking = wanted & ~EptVpidCap(self.ept_vpid)
        if lacking:
            names = ", ".join(str(bit.name) for bit in EptVpidCap if bit & lacking)
            raise MissingControlError(
                f"EPTP {value:#x} needs {names}, which IA32_VMX_EPT_VPID_CAP ({self.ept_vpid:#x}) does not offer",
                "choose another EPTP encoding or another host",
            )
        return eptp

    def check_control_registers(self, what: str, cr0: int, cr4: int) -> None:
        """Checks CR0 and CR4 of L1 in VMX operation, or of L2, against the fixed bits.

        Args:
            what: whose registers, for the message.
            cr0, cr4: the values.

        Raises:
            MissingControlError: CR4 has a feature bit that this vCPU lacks.
            ValueError: any other bit is wrong.
        """
        bad0 = fixed_bits_conflict(cr0, self.cr0_fixed0, self.cr0_fixed1)
        if bad0:
            raise ValueError(f"{what} CR0 {cr0:#x}: {Cr0(bad0)!r} is not allowed so in VMX operation")
        bad4 = fixed_bits_conflict(cr4, self.cr4_fixed0, self.cr4_fixed1)
        if bad4 & cr4:
            raise MissingControlError(
                f"{what} CR4 {cr4:#x}: this vCPU does not offer {Cr4(bad4 & cr4)!r} in VMX operation",
                "give the vCPU the matching CPUID feature, or use a host that has it",
            )
        if bad4:
            raise ValueError(f"{what} CR4 {cr4:#x}: VMX operation needs {Cr4(bad4)!r}")
