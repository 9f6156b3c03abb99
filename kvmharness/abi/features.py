"""Constants of what can be switched or filtered: capabilities' arguments, filters, attributes, dirty rings.

As in :mod:`kvmharness.abi.constants`, which has those that guests are run with.
"""

from enum import IntEnum, IntFlag


class VmType(IntEnum):
    """Argument of KVM_CREATE_VM. Source: api.rst, "KVM_CREATE_VM"."""

    DEFAULT_VM = 0
    SW_PROTECTED_VM = 1
    SEV_VM = 2
    SEV_ES_VM = 3
    SNP_VM = 4


class Quirk(IntFlag):
    """Argument of KVM_CAP_DISABLE_QUIRKS2. Source: api.rst, "KVM_CAP_DISABLE_QUIRKS2"."""

    LINT0_REENABLED = 1 << 0
    CD_NW_CLEARED = 1 << 1
    LAPIC_MMIO_HOLE = 1 << 2
    OUT_7E_INC_RIP = 1 << 3
    MISC_ENABLE_NO_MWAIT = 1 << 4
    FIX_HYPERCALL_INSN = 1 << 5
    MWAIT_NEVER_UD_FAULTS = 1 << 6
    SLOT_ZAP_ALL = 1 << 7
    STUFF_FEATURE_MSRS = 1 << 8
    IGNORE_GUEST_PAT = 1 << 9
    VMCS12_ALLOW_FREEZE_IN_SMM = 1 << 10


class X2apicApi(IntFlag):
    """Argument of KVM_CAP_X2APIC_API."""

    USE_32BIT_IDS = 1 << 0
    DISABLE_BROADCAST_QUIRK = 1 << 1


class NotifyVmexit(IntFlag):
    """Low half of the argument of KVM_CAP_X86_NOTIFY_VMEXIT."""

    ENABLED = 1 << 0
    USER = 1 << 1


class Notify(IntFlag):
    """``kvm_run.notify.flags``."""

    CONTEXT_INVALID = 1 << 0


class BusLock(IntFlag):
    """Argument of KVM_CAP_X86_BUS_LOCK_EXIT."""

    OFF = 1 << 0
    EXIT = 1 << 1


class PmuCap(IntFlag):
    """Argument of KVM_CAP_PMU_CAPABILITY."""

    DISABLE = 1 << 0


class PmuEvent(IntEnum):
    """``kvm_pmu_event_filter.action``. Source: api.rst, "KVM_SET_PMU_EVENT_FILTER"."""

    ALLOW = 0
    DENY = 1


class PmuEventFlag(IntFlag):
    """``kvm_pmu_event_filter.flags``."""

    MASKED_EVENTS = 1 << 0


class MaskedEntry(IntFlag):
    """Fields of an event where MASKED_EVENTS is set."""

    EVENT_SELECT = 0xFF | 0xF << 32
    UMASK_MATCH = 0xFF << 8
    EXCLUDE = 1 << 55
    UMASK_MASK = 0xFF << 56


class MsrFilter(IntFlag):
    """``kvm_msr_filter_range.flags``: what a range is about. Source: api.rst, "KVM_X86_SET_MSR_FILTER"."""

    READ = 1 << 0
    WRITE = 1 << 1


class MsrFilterDefault(IntEnum):
    """``kvm_msr_filter.flags``: what becomes of MSRs outside of all ranges."""

    ALLOW = 0
    DENY = 1


class MsrFilterLimit(IntEnum):
    """How many ranges, and how many bytes of a range's bitmap."""

    RANGES = 16
    BITMAP_SIZE = 0x600


class MemoryAttribute(IntFlag):
    """``kvm_memory_attributes.attributes``. Source: api.rst, "KVM_SET_MEMORY_ATTRIBUTES"."""

    PRIVATE = 1 << 3


class MemoryExitFlag(IntFlag):
    """``kvm_run.memory_fault.flags``."""

    PRIVATE = 1 << 3


class DirtyGfn(IntFlag):
    """``kvm_dirty_gfn.flags``: KVM sets DIRTY, who has collected the entry sets RESET."""

    DIRTY = 1 << 0
    RESET = 1 << 1


class PageOffset(IntEnum):
    """Where the parts of what a vCPU fd shares begin, in pages."""

    PIO_PAGE_OFFSET = 1
    COALESCED_MMIO_PAGE_OFFSET = 2
    DIRTY_LOG_PAGE_OFFSET = 64


class SystemGroup(IntEnum):
    """Groups of the attributes of ``/dev/kvm``."""

    SYSTEM = 0
    SEV = 1


class SystemAttribute(IntEnum):
    """Attributes of SystemGroup.SYSTEM: which dynamic XSAVE features guests can have, 64 bits."""

    GUEST_SUPP = 0


class TscAttribute(IntEnum):
    """The group of a vCPU's TSC, and its one attribute, a 64-bit offset in ticks. Source: devices/vcpu.rst."""

    CTRL = 0
    OFFSET = 0


class RunFlag(IntFlag):
    """``kvm_run.flags``."""

    SMM = 1 << 0
    BUS_LOCK = 1 << 1
    GUEST_MODE = 1 << 2


class HypercallFlag(IntFlag):
    """``kvm_run.hypercall.flags``."""

    LONG_MODE = 1 << 0


class EmulationFailure(IntFlag):
    """``kvm_run.emulation_failure.flags``."""

    INSTRUCTION_BYTES = 1 << 0


class InterruptShadow(IntFlag):
    """``kvm_vcpu_events.interrupt.shadow``."""

    MOV_SS = 1 << 0
    STI = 1 << 1


class Sregs2Flag(IntFlag):
    """``kvm_sregs2.flags``."""

    PDPTRS_VALID = 1 << 0


class NestedSmm(IntFlag):
    """``kvm_vmx_nested_state_hdr.smm.flags``."""

    GUEST_MODE = 1 << 0
    VMXON = 1 << 1


class NestedVmx(IntFlag):
    """``kvm_vmx_nested_state_hdr.flags``."""

    PREEMPTION_TIMER_DEADLINE = 1 << 0


class NestedBytes(IntEnum):
    """Lengths of the saved VMCS12 and VMCB12."""

    VMX_VMCS_SIZE = 0x1000
    SVM_VMCB_SIZE = 0x1000


class Register(IntFlag):
    """Parts of ``kvm_one_reg.id``: the architecture and the register's length."""

    GENERIC = 0
    X86 = 0x2 << 60
    ARCH_MASK = 0xFF << 56
    SIZE_U8 = 0 << 52
    SIZE_U16 = 1 << 52
    SIZE_U32 = 2 << 52
    SIZE_U64 = 3 << 52
    SIZE_U128 = 4 << 52
    SIZE_U256 = 5 << 52
    SIZE_U512 = 6 << 52
    SIZE_U1024 = 7 << 52
    SIZE_U2048 = 8 << 52
    SIZE_MASK = 0xF << 52


C_PREFIX: dict[type[IntEnum] | type[IntFlag], str] = {
    VmType: "KVM_X86_",
    Quirk: "KVM_X86_QUIRK_",
    X2apicApi: "KVM_X2APIC_API_",
    NotifyVmexit: "KVM_X86_NOTIFY_VMEXIT_",
    Notify: "KVM_NOTIFY_",
    BusLock: "KVM_BUS_LOCK_DETECTION_",
    PmuCap: "KVM_PMU_CAP_",
    PmuEvent: "KVM_PMU_EVENT_",
    PmuEventFlag: "KVM_PMU_EVENT_FLAG_",
    MaskedEntry: "KVM_PMU_MASKED_ENTRY_",
    MsrFilter: "KVM_MSR_FILTER_",
    MsrFilterDefault: "KVM_MSR_FILTER_DEFAULT_",
    MsrFilterLimit: "KVM_MSR_FILTER_MAX_",
    MemoryAttribute: "KVM_MEMORY_ATTRIBUTE_",
    MemoryExitFlag: "KVM_MEMORY_EXIT_FLAG_",
    DirtyGfn: "KVM_DIRTY_GFN_F_",
    PageOffset: "KVM_",
    SystemGroup: "KVM_X86_GRP_",
    SystemAttribute: "KVM_X86_XCOMP_",
    TscAttribute: "KVM_VCPU_TSC_",
    RunFlag: "KVM_RUN_X86_",
    HypercallFlag: "KVM_EXIT_HYPERCALL_",
    EmulationFailure: "KVM_INTERNAL_ERROR_EMULATION_FLAG_",
    InterruptShadow: "KVM_X86_SHADOW_INT_",
    Sregs2Flag: "KVM_SREGS2_FLAGS_",
    NestedSmm: "KVM_STATE_NESTED_SMM_",
    NestedVmx: "KVM_STATE_VMX_",
    NestedBytes: "KVM_STATE_NESTED_",
    Register: "KVM_REG_",
}
"""Where the kernel keeps each enum's names."""
