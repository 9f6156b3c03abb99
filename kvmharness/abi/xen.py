"""Constants of a VM that offers Xen's interface: ``<asm/kvm.h>``. Source: api.rst, "KVM_CAP_XEN_HVM"."""

from enum import IntEnum, IntFlag


class XenHvmConfig(IntFlag):
    """What KVM_CAP_XEN_HVM answers, and ``kvm_xen_hvm_config.flags``."""

    HYPERCALL_MSR = 1 << 0
    INTERCEPT_HCALL = 1 << 1
    SHARED_INFO = 1 << 2
    RUNSTATE = 1 << 3
    EVTCHN_2LEVEL = 1 << 4
    EVTCHN_SEND = 1 << 5
    RUNSTATE_UPDATE_FLAG = 1 << 6
    PVCLOCK_TSC_UNSTABLE = 1 << 7
    SHARED_INFO_HVA = 1 << 8


class XenAttr(IntEnum):
    """``kvm_xen_hvm_attr.type``."""

    LONG_MODE = 0
    SHARED_INFO = 1
    UPCALL_VECTOR = 2
    EVTCHN = 3
    XEN_VERSION = 4
    RUNSTATE_UPDATE_FLAG = 5
    SHARED_INFO_HVA = 6


class XenVcpuAttr(IntEnum):
    """``kvm_xen_vcpu_attr.type``."""

    VCPU_INFO = 0
    VCPU_TIME_INFO = 1
    RUNSTATE_ADDR = 2
    RUNSTATE_CURRENT = 3
    RUNSTATE_DATA = 4
    RUNSTATE_ADJUST = 5
    VCPU_ID = 6
    TIMER = 7
    UPCALL_VECTOR = 8
    VCPU_INFO_HVA = 9


class XenEventChannel(IntFlag):
    """``kvm_xen_hvm_attr.u.evtchn.flags``."""

    DEASSIGN = 1 << 0
    UPDATE = 1 << 1
    RESET = 1 << 2


class XenInvalid(IntEnum):
    """Takes a shared page back."""

    GFN = (1 << 64) - 1
    GPA = (1 << 64) - 1


class XenPriority(IntEnum):
    """``kvm_irq_routing_xen_evtchn.priority``: the only one there is."""

    PRIO_2LEVEL = (1 << 32) - 1


class XenExitKind(IntEnum):
    """``kvm_run.xen.type``."""

    HCALL = 1


C_PREFIX: dict[type[IntEnum] | type[IntFlag], str] = {
    XenHvmConfig: "KVM_XEN_HVM_CONFIG_",
    XenAttr: "KVM_XEN_ATTR_TYPE_",
    XenVcpuAttr: "KVM_XEN_VCPU_ATTR_TYPE_",
    XenEventChannel: "KVM_XEN_EVTCHN_",
    XenInvalid: "KVM_XEN_INVALID_",
    XenPriority: "KVM_IRQ_ROUTING_XEN_EVTCHN_",
    XenExitKind: "KVM_EXIT_XEN_",
}
"""Where the kernel keeps each enum's names."""
