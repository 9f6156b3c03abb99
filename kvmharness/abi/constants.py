"""The kernel's KVM constants as enums, one meaning a class; the values are those of ``<linux/kvm.h>``.

A member's C name is its class's entry in :data:`C_PREFIX` followed by the member's name; the header test looks every
one of them up. Only what x86 has is here, and only what guests are run with: the rest is in :mod:`.features`,
:mod:`.interrupts`, :mod:`.sev` and :mod:`.xen`.
"""

from enum import IntEnum, IntFlag

KVM_API_VERSION = 12
"""The one version there has been since Linux 2.6.22; everything newer is a capability."""

PAGE_BYTES = 4096


class Cap(IntEnum):
    """Arguments of KVM_CHECK_EXTENSION. Source: api.rst, "KVM_CHECK_EXTENSION"."""

    IRQCHIP = 0
    HLT = 1
    MMU_SHADOW_CACHE_CONTROL = 2
    USER_MEMORY = 3
    SET_TSS_ADDR = 4
    VAPIC = 6
    EXT_CPUID = 7
    CLOCKSOURCE = 8
    NR_VCPUS = 9  # recommended number of vCPUs a VM
    NR_MEMSLOTS = 10
    PIT = 11
    NOP_IO_DELAY = 12
    PV_MMU = 13
    MP_STATE = 14
    COALESCED_MMIO = 15  # the page, of what a vCPU shares, that the ring is in
    SYNC_MMU = 16
    DESTROY_MEMORY_REGION_WORKS = 21
    USER_NMI = 22
    SET_GUEST_DEBUG = 23
    REINJECT_CONTROL = 24
    IRQ_ROUTING = 25
    IRQ_INJECT_STATUS = 26
    JOIN_MEMORY_REGIONS_WORKS = 30
    MCE = 31  # number of banks
    IRQFD = 32
    PIT2 = 33
    SET_BOOT_CPU_ID = 34
    PIT_STATE2 = 35
    IOEVENTFD = 36
    SET_IDENTITY_MAP_ADDR = 37
    XEN_HVM = 38
    ADJUST_CLOCK = 39
    INTERNAL_ERROR_DATA = 40
    VCPU_EVENTS = 41
    HYPERV = 44
    HYPERV_VAPIC = 45
    HYPERV_SPIN = 46
    PCI_SEGMENT = 47
    INTR_SHADOW = 49
    DEBUGREGS = 50
    X86_ROBUST_SINGLESTEP = 51
    ENABLE_CAP = 54
    XSAVE = 55
    XCRS = 56
    ASYNC_PF = 59
    TSC_CONTROL = 60
    GET_TSC_KHZ = 61
    MAX_VCPUS = 66
    ONE_REG = 70  # on x86 since Linux 6.18
    TSC_DEADLINE_TIMER = 72
    SYNC_REGS = 74
    KVMCLOCK_CTRL = 76
    SIGNAL_MSI = 77
    READONLY_MEM = 81
    IRQFD_RESAMPLE = 82
    DEVICE_CTRL = 89
    EXT_EMUL_CPUID = 95
    HYPERV_TIME = 96
    IOAPIC_POLARITY_IGNORED = 97
    ENABLE_CAP_VM = 98
    IOEVENTFD_NO_LENGTH = 100
    VM_ATTRIBUTES = 101
    CHECK_EXTENSION_VM = 105
    DISABLE_QUIRKS = 116
    X86_SMM = 117
    MULTI_ADDRESS_SPACE = 118
    GUEST_DEBUG_HW_BPS = 119
    GUEST_DEBUG_HW_WPS = 120
    SPLIT_IRQCHIP = 121
    IOEVENTFD_ANY_LENGTH = 122
    HYPERV_SYNIC = 123
    VCPU_ATTRIBUTES = 127
    MAX_VCPU_ID = 128
    X2APIC_API = 129
    IMMEDIATE_EXIT = 136
    X86_DISABLE_EXITS = 143
    HYPERV_SYNIC2 = 148
    HYPERV_VP_INDEX = 149
    GET_MSR_FEATURES = 153
    HYPERV_EVENTFD = 154
    HYPERV_TLBFLUSH = 155
    NESTED_STATE = 157
    MSR_PLATFORM_INFO = 159
    HYPERV_SEND_IPI = 161
    COALESCED_PIO = 162
    HYPERV_ENLIGHTENED_VMCS = 163
    EXCEPTION_PAYLOAD = 164
    HYPERV_CPUID = 167
    MANUAL_DIRTY_LOG_PROTECT2 = 168
    PMU_EVENT_FILTER = 173
    HYPERV_DIRECT_TLBFLUSH = 175
    HALT_POLL = 182
    ASYNC_PF_INT = 183
    LAST_CPU = 184
    SMALLER_MAXPHYADDR = 185
    STEAL_TIME = 187
    X86_USER_SPACE_MSR = 188
    X86_MSR_FILTER = 189
    ENFORCE_PV_FEATURE_CPUID = 190
    SYS_HYPERV_CPUID = 191
    DIRTY_LOG_RING = 192  # bytes of the largest ring
    X86_BUS_LOCK_EXIT = 193
    SET_GUEST_DEBUG2 = 195
    SGX_ATTRIBUTE = 196
    VM_COPY_ENC_CONTEXT_FROM = 197
    HYPERV_ENFORCE_CPUID = 199
    SREGS2 = 200
    EXIT_HYPERCALL = 201
    BINARY_STATS_FD = 203
    EXIT_ON_EMULATION_FAILURE = 204
    VM_MOVE_ENC_CONTEXT_FROM = 206
    VM_GPA_BITS = 207
    XSAVE2 = 208
    SYS_ATTRIBUTES = 209
    PMU_CAPABILITY = 212
    DISABLE_QUIRKS2 = 213
    VM_TSC_CONTROL = 214
    SYSTEM_EVENT_DATA = 215
    X86_TRIPLE_FAULT_EVENT = 218
    X86_NOTIFY_VMEXIT = 219
    VM_DISABLE_NX_HUGE_PAGES = 220
    DIRTY_LOG_RING_ACQ_REL = 223
    DIRTY_LOG_RING_WITH_BITMAP = 225
    PMU_EVENT_MASKED_EVENTS = 226
    USER_MEMORY2 = 231
    MEMORY_FAULT_INFO = 232
    MEMORY_ATTRIBUTES = 233  # those that KVM_SET_MEMORY_ATTRIBUTES takes
    GUEST_MEMFD = 234
    VM_TYPES = 235  # bit n: KVM_CREATE_VM takes type n
    PRE_FAULT_MEMORY = 236
    X86_APIC_BUS_CYCLES_NS = 237
    X86_GUEST_MODE = 238


class ExitReason(IntEnum):
    """``kvm_run.exit_reason``: why KVM_RUN came back. Source: api.rst, "The kvm_run structure"."""

    UNKNOWN = 0
    EXCEPTION = 1
    IO = 2
    HYPERCALL = 3
    DEBUG = 4
    HLT = 5
    MMIO = 6
    IRQ_WINDOW_OPEN = 7
    SHUTDOWN = 8
    FAIL_ENTRY = 9
    INTR = 10
    SET_TPR = 11
    TPR_ACCESS = 12
    NMI = 16
    INTERNAL_ERROR = 17
    SYSTEM_EVENT = 24
    IOAPIC_EOI = 26
    HYPERV = 27
    X86_RDMSR = 29
    X86_WRMSR = 30
    DIRTY_RING_FULL = 31
    AP_RESET_HOLD = 32
    X86_BUS_LOCK = 33
    XEN = 34
    NOTIFY = 37
    MEMORY_FAULT = 39


class InternalErrorKind(IntEnum):
    """``kvm_run.internal.suberror`` of KVM_EXIT_INTERNAL_ERROR: what KVM itself could not do."""

    EMULATION = 1
    SIMUL_EX = 2
    DELIVERY_EV = 3
    UNEXPECTED_EXIT_REASON = 4


class IoDirection(IntEnum):
    """``kvm_run.io.direction``, seen from the guest."""

    IN = 0
    OUT = 1


class SystemEvent(IntEnum):
    """``kvm_run.system_event.type``."""

    SHUTDOWN = 1
    RESET = 2
    CRASH = 3
    WAKEUP = 4
    SUSPEND = 5
    SEV_TERM = 6


class MsrExitReason(IntFlag):
    """``kvm_run.msr.reason``, and the mask that KVM_CAP_X86_USER_SPACE_MSR takes."""

    INVAL = 1 << 0
    UNKNOWN = 1 << 1
    FILTER = 1 << 2


class MpState(IntEnum):
    """``kvm_mp_state.mp_state``. Source: api.rst, "KVM_GET_MP_STATE"."""

    RUNNABLE = 0
    UNINITIALIZED = 1
    INIT_RECEIVED = 2
    HALTED = 3
    SIPI_RECEIVED = 4
    AP_RESET_HOLD = 9  # SEV-ES: waits for SIPI in place of the guest's own loop


class MemFlag(IntFlag):
    """``kvm_userspace_memory_region.flags``. Source: api.rst, "KVM_SET_USER_MEMORY_REGION"."""

    LOG_DIRTY_PAGES = 1 << 0
    READONLY = 1 << 1
    GUEST_MEMFD = 1 << 2  # for KVM_SET_USER_MEMORY_REGION2 only


class DirtyLogManual(IntFlag):
    """Argument of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: a page stays logged until KVM_CLEAR_DIRTY_LOG."""

    MANUAL_PROTECT_ENABLE = 1 << 0
    INITIALLY_SET = 1 << 1


class GuestDebug(IntFlag):
    """``kvm_guest_debug.control``. Source: api.rst, "KVM_SET_GUEST_DEBUG"."""

    ENABLE = 1 << 0
    SINGLESTEP = 1 << 1
    USE_SW_BP = 1 << 16
    USE_HW_BP = 1 << 17
    INJECT_DB = 1 << 18
    INJECT_BP = 1 << 19
    BLOCKIRQ = 1 << 20


class CpuidFlag(IntFlag):
    """``kvm_cpuid_entry2.flags``. The kernel's spelling is part of the ABI."""

    SIGNIFCANT_INDEX = 1 << 0
    STATEFUL_FUNC = 1 << 1
    STATE_READ_NEXT = 1 << 2


class VcpuEventValid(IntFlag):
    """``kvm_vcpu_events.flags``: which fields KVM_SET_VCPU_EVENTS takes."""

    NMI_PENDING = 1 << 0
    SIPI_VECTOR = 1 << 1
    SHADOW = 1 << 2
    SMM = 1 << 3
    PAYLOAD = 1 << 4
    TRIPLE_FAULT = 1 << 5


class ClockFlag(IntFlag):
    """``kvm_clock_data.flags``. Source: api.rst, "KVM_GET_CLOCK"."""

    TSC_STABLE = 1 << 1
    REALTIME = 1 << 2
    HOST_TSC = 1 << 3


class SyncRegs(IntFlag):
    """``kvm_run.kvm_valid_regs`` and ``kvm_dirty_regs``. Source: api.rst, "KVM_CAP_SYNC_REGS"."""

    REGS = 1 << 0
    SREGS = 1 << 1
    EVENTS = 1 << 2


class DisableExits(IntFlag):
    """Argument of KVM_CAP_X86_DISABLE_EXITS: instructions that no longer leave the guest."""

    MWAIT = 1 << 0
    HLT = 1 << 1
    PAUSE = 1 << 2
    CSTATE = 1 << 3


class NestedFormat(IntEnum):
    """``kvm_nested_state.format``: whose nested virtualization the state is of."""

    VMX = 0
    SVM = 1


class NestedFlag(IntFlag):
    """``kvm_nested_state.flags``. Source: api.rst, "KVM_GET_NESTED_STATE"."""

    GUEST_MODE = 1 << 0
    RUN_PENDING = 1 << 1
    EVMCS = 1 << 2
    MTF_PENDING = 1 << 3
    GIF_SET = 1 << 8


class Irqchip(IntEnum):
    """``kvm_irqchip.chip_id``."""

    PIC_MASTER = 0
    PIC_SLAVE = 1
    IOAPIC = 2


class StatsType(IntEnum):
    """Bits 3:0 of ``kvm_stats_desc.flags``. Source: api.rst, "KVM_GET_STATS_FD"."""

    CUMULATIVE = 0
    INSTANT = 1
    PEAK = 2
    LINEAR_HIST = 3
    LOG_HIST = 4


class StatsUnit(IntEnum):
    """Bits 7:4 of ``kvm_stats_desc.flags``, in place."""

    NONE = 0 << 4
    BYTES = 1 << 4
    SECONDS = 2 << 4
    CYCLES = 3 << 4
    BOOLEAN = 4 << 4


class StatsBase(IntEnum):
    """Bits 11:8 of ``kvm_stats_desc.flags``, in place: what the exponent is a power of."""

    POW10 = 0 << 8
    POW2 = 1 << 8


STATS_TYPE_MASK = 0xF << 0
STATS_UNIT_MASK = 0xF << 4
STATS_BASE_MASK = 0xF << 8

C_PREFIX: dict[type[IntEnum] | type[IntFlag], str] = {
    Cap: "KVM_CAP_",
    ExitReason: "KVM_EXIT_",
    InternalErrorKind: "KVM_INTERNAL_ERROR_",
    IoDirection: "KVM_EXIT_IO_",
    SystemEvent: "KVM_SYSTEM_EVENT_",
    MsrExitReason: "KVM_MSR_EXIT_REASON_",
    MpState: "KVM_MP_STATE_",
    MemFlag: "KVM_MEM_",
    DirtyLogManual: "KVM_DIRTY_LOG_",
    GuestDebug: "KVM_GUESTDBG_",
    CpuidFlag: "KVM_CPUID_FLAG_",
    VcpuEventValid: "KVM_VCPUEVENT_VALID_",
    ClockFlag: "KVM_CLOCK_",
    SyncRegs: "KVM_SYNC_X86_",
    DisableExits: "KVM_X86_DISABLE_EXITS_",
    NestedFormat: "KVM_STATE_NESTED_FORMAT_",
    NestedFlag: "KVM_STATE_NESTED_",
    Irqchip: "KVM_IRQCHIP_",
    StatsType: "KVM_STATS_TYPE_",
    StatsUnit: "KVM_STATS_UNIT_",
    StatsBase: "KVM_STATS_BASE_",
}
"""Where the kernel keeps each enum's names."""
