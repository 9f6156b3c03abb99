"""The table of ioctls: name, number, level, struct, capability, and the section of the kernel's api.rst about it.

The size field of a number comes from the struct's declaration, never from a hand. What a call may be made on (its
level) and with (its struct) is data here, so that :mod:`kvmharness.abi.binding` can refuse a wrong one.
"""

from collections.abc import Mapping
from typing import Any

from kvmharness.abi._kvm_abi import ffi as _ffi

ffi: Any = _ffi

SYSTEM, VM, VCPU, DEVICE = 1, 2, 4, 8
"""The kinds of fd, as bits: some ioctls exist on more than one. DEVICE is one that KVM_CREATE_DEVICE made."""

LEVEL_NAMES = {SYSTEM: "/dev/kvm", VM: "VM", VCPU: "vCPU", DEVICE: "device"}

_KVMIO = 0xAE
_NONE, _WRITE, _READ, _BOTH = 0, 1, 2, 3  # _IOC_* of <asm-generic/ioctl.h>, seen from user space
_SIZE_SHIFT, _DIRECTION_SHIFT = 16, 30
_NOWHERE: Mapping[int, str] = {}


class Ioctl:
    """One ioctl of KVM.

    Attributes:
        name: the kernel's name for it.
        number: the request argument of ioctl(2).
        levels: the kinds of fd that take it, as bits.
        struct: C type that the argument points to; empty when the argument is a plain integer.
        pointer: that pointer as a cffi type, or None.
        capability: what KVM_CHECK_EXTENSION must answer for; empty for what always exists.
        elsewhere: the levels where it is another capability, each with that.
        section: title in api.rst, where it is not the ioctl's name.
    """

    __slots__ = (
        *("capability", "direction", "elsewhere", "levels", "name", "nr", "number", "pointer", "section", "struct"),
    )

    def __init__(
        self,
        name: str,
        direction: int,
        nr: int,
        levels: int,
        struct: str = "",
        capability: str = "",
        section: str = "",
        elsewhere: Mapping[int, str] = _NOWHERE,
    ) -> None:
        self.name = name
        self.direction = direction
        self.nr = nr
        self.levels = levels
        self.struct = struct
        self.capability = capability
        self.elsewhere = elsewhere
        self.section = section or name
        self.pointer: Any = ffi.typeof(struct + " *") if struct else None
        size = ffi.sizeof(struct) if direction else 0
        self.number: int = direction << _DIRECTION_SHIFT | size << _SIZE_SHIFT | _KVMIO << 8 | nr

    def needs(self, level: int) -> str:
        """The capability that an fd of this level must have; empty for none."""
        return self.elsewhere.get(level, self.capability)

    def __repr__(self) -> str:
        return f"Ioctl({self.name}, {self.number:#010x})"


_MSR_LIST = "KVM_GET_MSR_INDEX_LIST, KVM_GET_MSR_FEATURE_INDEX_LIST"
_COALESCED_MMIO = "KVM_(UN)REGISTER_COALESCED_MMIO"
_DEVICE_ATTR = "KVM_SET_DEVICE_ATTR/KVM_GET_DEVICE_ATTR"
_ATTRIBUTES = {SYSTEM: "KVM_CAP_SYS_ATTRIBUTES", VM: "KVM_CAP_VM_ATTRIBUTES", VCPU: "KVM_CAP_VCPU_ATTRIBUTES"}

_TABLE = (
    Ioctl("KVM_GET_API_VERSION", _NONE, 0x00, SYSTEM),
    Ioctl("KVM_CREATE_VM", _NONE, 0x01, SYSTEM),
    Ioctl("KVM_GET_MSR_INDEX_LIST", _BOTH, 0x02, SYSTEM, "struct kvm_msr_list", section=_MSR_LIST),
    Ioctl("KVM_CHECK_EXTENSION", _NONE, 0x03, SYSTEM | VM),
    Ioctl("KVM_GET_VCPU_MMAP_SIZE", _NONE, 0x04, SYSTEM),
    Ioctl("KVM_GET_SUPPORTED_CPUID", _BOTH, 0x05, SYSTEM, "struct kvm_cpuid2", "KVM_CAP_EXT_CPUID"),
    Ioctl("KVM_GET_EMULATED_CPUID", _BOTH, 0x09, SYSTEM, "struct kvm_cpuid2", "KVM_CAP_EXT_EMUL_CPUID"),
    Ioctl(
        "KVM_GET_MSR_FEATURE_INDEX_LIST",
        _BOTH,
        0x0A,
        SYSTEM,
        "struct kvm_msr_list",
        "KVM_CAP_GET_MSR_FEATURES",
        _MSR_LIST,
    ),
    Ioctl("KVM_CREATE_VCPU", _NONE, 0x41, VM),
    Ioctl("KVM_GET_DIRTY_LOG", _WRITE, 0x42, VM, "struct kvm_dirty_log", section="KVM_GET_DIRTY_LOG (vm ioctl)"),
    Ioctl("KVM_SET_NR_MMU_PAGES", _NONE, 0x44, VM),
    Ioctl("KVM_GET_NR_MMU_PAGES", _NONE, 0x45, VM),
    Ioctl("KVM_SET_USER_MEMORY_REGION", _WRITE, 0x46, VM, "struct kvm_userspace_memory_region", "KVM_CAP_USER_MEMORY"),
    Ioctl("KVM_SET_TSS_ADDR", _NONE, 0x47, VM, capability="KVM_CAP_SET_TSS_ADDR"),
    Ioctl("KVM_SET_IDENTITY_MAP_ADDR", _WRITE, 0x48, VM, "__u64", "KVM_CAP_SET_IDENTITY_MAP_ADDR"),
    Ioctl(
        "KVM_SET_USER_MEMORY_REGION2", _WRITE, 0x49, VM, "struct kvm_userspace_memory_region2", "KVM_CAP_USER_MEMORY2"
    ),
    Ioctl("KVM_CREATE_IRQCHIP", _NONE, 0x60, VM, capability="KVM_CAP_IRQCHIP"),
    Ioctl("KVM_IRQ_LINE", _WRITE, 0x61, VM, "struct kvm_irq_level", "KVM_CAP_IRQCHIP"),
    Ioctl("KVM_GET_IRQCHIP", _BOTH, 0x62, VM, "struct kvm_irqchip", "KVM_CAP_IRQCHIP"),
    Ioctl("KVM_SET_IRQCHIP", _READ, 0x63, VM, "struct kvm_irqchip", "KVM_CAP_IRQCHIP"),
    Ioctl("KVM_CREATE_PIT", _NONE, 0x64, VM, capability="KVM_CAP_PIT"),
    Ioctl("KVM_GET_PIT", _BOTH, 0x65, VM, "struct kvm_pit_state", "KVM_CAP_PIT"),
    Ioctl("KVM_SET_PIT", _READ, 0x66, VM, "struct kvm_pit_state", "KVM_CAP_PIT"),
    Ioctl("KVM_IRQ_LINE_STATUS", _BOTH, 0x67, VM, "struct kvm_irq_level", "KVM_CAP_IRQ_INJECT_STATUS", "KVM_IRQ_LINE"),
    Ioctl(
        "KVM_REGISTER_COALESCED_MMIO",
        _WRITE,
        0x67,
        VM,
        "struct kvm_coalesced_mmio_zone",
        "KVM_CAP_COALESCED_MMIO",
        _COALESCED_MMIO,
    ),
    Ioctl(
        "KVM_UNREGISTER_COALESCED_MMIO",
        _WRITE,
        0x68,
        VM,
        "struct kvm_coalesced_mmio_zone",
        "KVM_CAP_COALESCED_MMIO",
        _COALESCED_MMIO,
    ),
    Ioctl("KVM_SET_GSI_ROUTING", _WRITE, 0x6A, VM, "struct kvm_irq_routing", "KVM_CAP_IRQ_ROUTING"),
    Ioctl("KVM_REINJECT_CONTROL", _NONE, 0x71, VM, "struct kvm_reinject_control", "KVM_CAP_REINJECT_CONTROL"),
    Ioctl("KVM_IRQFD", _WRITE, 0x76, VM, "struct kvm_irqfd", "KVM_CAP_IRQFD"),
    Ioctl("KVM_CREATE_PIT2", _WRITE, 0x77, VM, "struct kvm_pit_config", "KVM_CAP_PIT2"),
    Ioctl("KVM_SET_BOOT_CPU_ID", _NONE, 0x78, VM, capability="KVM_CAP_SET_BOOT_CPU_ID"),
    Ioctl("KVM_IOEVENTFD", _WRITE, 0x79, VM, "struct kvm_ioeventfd", "KVM_CAP_IOEVENTFD"),
    Ioctl("KVM_XEN_HVM_CONFIG", _WRITE, 0x7A, VM, "struct kvm_xen_hvm_config", "KVM_CAP_XEN_HVM"),
    Ioctl("KVM_SET_CLOCK", _WRITE, 0x7B, VM, "struct kvm_clock_data", "KVM_CAP_ADJUST_CLOCK"),
    Ioctl("KVM_GET_CLOCK", _READ, 0x7C, VM, "struct kvm_clock_data", "KVM_CAP_ADJUST_CLOCK"),
    Ioctl("KVM_RUN", _NONE, 0x80, VCPU),
    Ioctl("KVM_GET_REGS", _READ, 0x81, VCPU, "struct kvm_regs"),
    Ioctl("KVM_SET_REGS", _WRITE, 0x82, VCPU, "struct kvm_regs"),
    Ioctl("KVM_GET_SREGS", _READ, 0x83, VCPU, "struct kvm_sregs"),
    Ioctl("KVM_SET_SREGS", _WRITE, 0x84, VCPU, "struct kvm_sregs"),
    Ioctl("KVM_TRANSLATE", _BOTH, 0x85, VCPU, "struct kvm_translation"),
    Ioctl("KVM_INTERRUPT", _WRITE, 0x86, VCPU, "struct kvm_interrupt"),
    Ioctl(
        "KVM_GET_MSRS",
        _BOTH,
        0x88,
        SYSTEM | VCPU,
        "struct kvm_msrs",
        elsewhere={SYSTEM: "KVM_CAP_GET_MSR_FEATURES"},
    ),
    Ioctl("KVM_SET_MSRS", _WRITE, 0x89, VCPU, "struct kvm_msrs"),
    Ioctl("KVM_SET_CPUID", _WRITE, 0x8A, VCPU, "struct kvm_cpuid"),
    Ioctl("KVM_SET_SIGNAL_MASK", _WRITE, 0x8B, VCPU, "struct kvm_signal_mask"),
    Ioctl("KVM_GET_FPU", _READ, 0x8C, VCPU, "struct kvm_fpu"),
    Ioctl("KVM_SET_FPU", _WRITE, 0x8D, VCPU, "struct kvm_fpu"),
    Ioctl("KVM_GET_LAPIC", _READ, 0x8E, VCPU, "struct kvm_lapic_state", "KVM_CAP_IRQCHIP"),
    Ioctl("KVM_SET_LAPIC", _WRITE, 0x8F, VCPU, "struct kvm_lapic_state", "KVM_CAP_IRQCHIP"),
    Ioctl("KVM_SET_CPUID2", _WRITE, 0x90, VCPU, "struct kvm_cpuid2", "KVM_CAP_EXT_CPUID", "KVM_SET_CPUID"),
    Ioctl("KVM_GET_CPUID2", _BOTH, 0x91, VCPU, "struct kvm_cpuid2", "KVM_CAP_EXT_CPUID", "KVM_SET_CPUID"),
    Ioctl("KVM_TPR_ACCESS_REPORTING", _BOTH, 0x92, VCPU, "struct kvm_tpr_access_ctl", "KVM_CAP_VAPIC"),
    Ioctl("KVM_SET_VAPIC_ADDR", _WRITE, 0x93, VCPU, "struct kvm_vapic_addr", "KVM_CAP_VAPIC"),
    Ioctl("KVM_GET_MP_STATE", _READ, 0x98, VCPU, "struct kvm_mp_state", "KVM_CAP_MP_STATE"),
    Ioctl("KVM_SET_MP_STATE", _WRITE, 0x99, VCPU, "struct kvm_mp_state", "KVM_CAP_MP_STATE"),
    Ioctl("KVM_NMI", _NONE, 0x9A, VCPU, capability="KVM_CAP_USER_NMI"),
    Ioctl("KVM_SET_GUEST_DEBUG", _WRITE, 0x9B, VCPU, "struct kvm_guest_debug", "KVM_CAP_SET_GUEST_DEBUG"),
    Ioctl("KVM_X86_SETUP_MCE", _WRITE, 0x9C, VCPU, "__u64", "KVM_CAP_MCE"),
    Ioctl("KVM_X86_GET_MCE_CAP_SUPPORTED", _READ, 0x9D, SYSTEM, "__u64", "KVM_CAP_MCE"),
    Ioctl("KVM_X86_SET_MCE", _WRITE, 0x9E, VCPU, "struct kvm_x86_mce", "KVM_CAP_MCE"),
    # 0x9f and 0xa0 to 0xa3 are shared: direction, size or level tells the ioctls apart.
    Ioctl("KVM_GET_PIT2", _READ, 0x9F, VM, "struct kvm_pit_state2", "KVM_CAP_PIT_STATE2"),
    Ioctl("KVM_SET_PIT2", _WRITE, 0xA0, VM, "struct kvm_pit_state2", "KVM_CAP_PIT_STATE2"),
    Ioctl("KVM_GET_VCPU_EVENTS", _READ, 0x9F, VCPU, "struct kvm_vcpu_events", "KVM_CAP_VCPU_EVENTS"),
    Ioctl("KVM_SET_VCPU_EVENTS", _WRITE, 0xA0, VCPU, "struct kvm_vcpu_events", "KVM_CAP_VCPU_EVENTS"),
    Ioctl("KVM_GET_DEBUGREGS", _READ, 0xA1, VCPU, "struct kvm_debugregs", "KVM_CAP_DEBUGREGS"),
    Ioctl("KVM_SET_DEBUGREGS", _WRITE, 0xA2, VCPU, "struct kvm_debugregs", "KVM_CAP_DEBUGREGS"),
    Ioctl(
        "KVM_SET_TSC_KHZ",
        _NONE,
        0xA2,
        VM | VCPU,
        capability="KVM_CAP_TSC_CONTROL",
        elsewhere={VM: "KVM_CAP_VM_TSC_CONTROL"},
    ),
    Ioctl(
        "KVM_GET_TSC_KHZ",
        _NONE,
        0xA3,
        VM | VCPU,
        capability="KVM_CAP_GET_TSC_KHZ",
        elsewhere={VM: "KVM_CAP_VM_TSC_CONTROL"},
    ),
    Ioctl(
        "KVM_ENABLE_CAP",
        _WRITE,
        0xA3,
        VM | VCPU,
        "struct kvm_enable_cap",
        "KVM_CAP_ENABLE_CAP",
        elsewhere={VM: "KVM_CAP_ENABLE_CAP_VM"},
    ),
    Ioctl("KVM_GET_XSAVE", _READ, 0xA4, VCPU, "struct kvm_xsave", "KVM_CAP_XSAVE"),
    Ioctl("KVM_SET_XSAVE", _WRITE, 0xA5, VCPU, "struct kvm_xsave", "KVM_CAP_XSAVE"),
    Ioctl("KVM_SIGNAL_MSI", _WRITE, 0xA5, VM, "struct kvm_msi", "KVM_CAP_SIGNAL_MSI"),
    Ioctl("KVM_GET_XCRS", _READ, 0xA6, VCPU, "struct kvm_xcrs", "KVM_CAP_XCRS"),
    Ioctl("KVM_SET_XCRS", _WRITE, 0xA7, VCPU, "struct kvm_xcrs", "KVM_CAP_XCRS"),
    Ioctl("KVM_GET_ONE_REG", _WRITE, 0xAB, VCPU, "struct kvm_one_reg", "KVM_CAP_ONE_REG"),
    Ioctl("KVM_SET_ONE_REG", _WRITE, 0xAC, VCPU, "struct kvm_one_reg", "KVM_CAP_ONE_REG"),
    Ioctl("KVM_KVMCLOCK_CTRL", _NONE, 0xAD, VCPU, capability="KVM_CAP_KVMCLOCK_CTRL"),
    Ioctl("KVM_GET_REG_LIST", _BOTH, 0xB0, VCPU, "struct kvm_reg_list", "KVM_CAP_ONE_REG"),
    Ioctl("KVM_SET_PMU_EVENT_FILTER", _WRITE, 0xB2, VM, "struct kvm_pmu_event_filter", "KVM_CAP_PMU_EVENT_FILTER"),
    Ioctl("KVM_SMI", _NONE, 0xB7, VCPU, capability="KVM_CAP_X86_SMM"),
    # The argument of the first one is a struct kvm_sev_cmd; its number has another type's size. SEV has no capability.
    Ioctl("KVM_MEMORY_ENCRYPT_OP", _BOTH, 0xBA, VM, "unsigned long"),
    Ioctl("KVM_MEMORY_ENCRYPT_REG_REGION", _READ, 0xBB, VM, "struct kvm_enc_region"),
    Ioctl("KVM_MEMORY_ENCRYPT_UNREG_REGION", _READ, 0xBC, VM, "struct kvm_enc_region"),
    Ioctl("KVM_HYPERV_EVENTFD", _WRITE, 0xBD, VM, "struct kvm_hyperv_eventfd", "KVM_CAP_HYPERV_EVENTFD"),
    Ioctl("KVM_GET_NESTED_STATE", _BOTH, 0xBE, VCPU, "struct kvm_nested_state", "KVM_CAP_NESTED_STATE"),
    Ioctl("KVM_SET_NESTED_STATE", _WRITE, 0xBF, VCPU, "struct kvm_nested_state", "KVM_CAP_NESTED_STATE"),
    Ioctl(
        "KVM_CLEAR_DIRTY_LOG",
        _BOTH,
        0xC0,
        VM,
        "struct kvm_clear_dirty_log",
        "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2",
        "KVM_CLEAR_DIRTY_LOG (vm ioctl)",
    ),
    Ioctl(
        "KVM_GET_SUPPORTED_HV_CPUID",
        _BOTH,
        0xC1,
        SYSTEM | VCPU,
        "struct kvm_cpuid2",
        "KVM_CAP_HYPERV_CPUID",
        elsewhere={SYSTEM: "KVM_CAP_SYS_HYPERV_CPUID"},
    ),
    Ioctl("KVM_X86_SET_MSR_FILTER", _WRITE, 0xC6, VM, "struct kvm_msr_filter", "KVM_CAP_X86_MSR_FILTER"),
    Ioctl(
        "KVM_RESET_DIRTY_RINGS",
        _NONE,
        0xC7,
        VM,
        capability="KVM_CAP_DIRTY_LOG_RING",
        section="KVM_CAP_DIRTY_LOG_RING/KVM_CAP_DIRTY_LOG_RING_ACQ_REL",
    ),
    Ioctl("KVM_XEN_HVM_GET_ATTR", _BOTH, 0xC8, VM, "struct kvm_xen_hvm_attr", "KVM_CAP_XEN_HVM"),
    Ioctl("KVM_XEN_HVM_SET_ATTR", _WRITE, 0xC9, VM, "struct kvm_xen_hvm_attr", "KVM_CAP_XEN_HVM"),
    Ioctl("KVM_XEN_VCPU_GET_ATTR", _BOTH, 0xCA, VCPU, "struct kvm_xen_vcpu_attr", "KVM_CAP_XEN_HVM"),
    Ioctl("KVM_XEN_VCPU_SET_ATTR", _WRITE, 0xCB, VCPU, "struct kvm_xen_vcpu_attr", "KVM_CAP_XEN_HVM"),
    Ioctl("KVM_GET_SREGS2", _READ, 0xCC, VCPU, "struct kvm_sregs2", "KVM_CAP_SREGS2"),
    Ioctl("KVM_SET_SREGS2", _WRITE, 0xCD, VCPU, "struct kvm_sregs2", "KVM_CAP_SREGS2"),
    Ioctl("KVM_GET_STATS_FD", _NONE, 0xCE, VM | VCPU, capability="KVM_CAP_BINARY_STATS_FD"),
    Ioctl("KVM_GET_XSAVE2", _READ, 0xCF, VCPU, "struct kvm_xsave", "KVM_CAP_XSAVE2"),
    Ioctl("KVM_XEN_HVM_EVTCHN_SEND", _WRITE, 0xD0, VM, "struct kvm_irq_routing_xen_evtchn", "KVM_CAP_XEN_HVM"),
    Ioctl("KVM_SET_MEMORY_ATTRIBUTES", _WRITE, 0xD2, VM, "struct kvm_memory_attributes", "KVM_CAP_MEMORY_ATTRIBUTES"),
    Ioctl("KVM_CREATE_GUEST_MEMFD", _BOTH, 0xD4, VM, "struct kvm_create_guest_memfd", "KVM_CAP_GUEST_MEMFD"),
    Ioctl("KVM_PRE_FAULT_MEMORY", _BOTH, 0xD5, VCPU, "struct kvm_pre_fault_memory", "KVM_CAP_PRE_FAULT_MEMORY"),
    Ioctl("KVM_CREATE_DEVICE", _BOTH, 0xE0, VM, "struct kvm_create_device", "KVM_CAP_DEVICE_CTRL"),
    Ioctl(
        "KVM_SET_DEVICE_ATTR",
        _WRITE,
        0xE1,
        VM | VCPU | DEVICE,
        "struct kvm_device_attr",
        "KVM_CAP_DEVICE_CTRL",
        _DEVICE_ATTR,
        _ATTRIBUTES,
    ),
    Ioctl(
        "KVM_GET_DEVICE_ATTR",
        _WRITE,
        0xE2,
        SYSTEM | VM | VCPU | DEVICE,
        "struct kvm_device_attr",
        "KVM_CAP_DEVICE_CTRL",
        _DEVICE_ATTR,
        _ATTRIBUTES,
    ),
    Ioctl(
        "KVM_HAS_DEVICE_ATTR",
        _WRITE,
        0xE3,
        SYSTEM | VM | VCPU | DEVICE,
        "struct kvm_device_attr",
        "KVM_CAP_DEVICE_CTRL",
        elsewhere=_ATTRIBUTES,
    ),
)

IOCTLS = {op.name: op for op in _TABLE}
"""Every ioctl by the kernel's name."""
