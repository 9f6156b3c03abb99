"""Constants of interrupt routing, event fds, timers and devices in the kernel: ``<linux/kvm.h>``, ``<asm/kvm.h>``."""

from enum import IntEnum, IntFlag


class Routing(IntEnum):
    """``kvm_irq_routing_entry.type``. Source: api.rst, "KVM_SET_GSI_ROUTING"."""

    IRQCHIP = 1
    MSI = 2
    HV_SINT = 4
    XEN_EVTCHN = 5


class MsiFlag(IntFlag):
    """``kvm_msi.flags``."""

    VALID_DEVID = 1 << 0


class IrqfdFlag(IntFlag):
    """``kvm_irqfd.flags``. Source: api.rst, "KVM_IRQFD"."""

    DEASSIGN = 1 << 0
    RESAMPLE = 1 << 1


class IoeventfdFlag(IntFlag):
    """``kvm_ioeventfd.flags``. Source: api.rst, "KVM_IOEVENTFD"."""

    DATAMATCH = 1 << 0
    PIO = 1 << 1
    DEASSIGN = 1 << 2


class PitFlag(IntFlag):
    """``kvm_pit_state2.flags``. Source: api.rst, "KVM_GET_PIT2"."""

    HPET_LEGACY = 1 << 0
    SPEAKER_DATA_ON = 1 << 1


class PitConfig(IntFlag):
    """``kvm_pit_config.flags``."""

    SPEAKER_DUMMY = 1 << 0


class InterruptCount(IntEnum):
    """Sizes of the interrupt controllers."""

    NR_INTERRUPTS = 256
    NR_IRQCHIPS = 3
    IOAPIC_NUM_PINS = 24
    APIC_REG_SIZE = 0x400


class DeviceType(IntEnum):
    """``kvm_create_device.type``. Source: Documentation/virt/kvm/devices/."""

    VFIO = 4


class CreateDevice(IntFlag):
    """``kvm_create_device.flags``."""

    TEST = 1 << 0  # only asks whether there is such a device


class VfioGroup(IntEnum):
    """Groups of the VFIO device's attributes. Source: Documentation/virt/kvm/devices/vfio.rst."""

    FILE = 1  # KVM_DEV_VFIO_GROUP before Linux 6.6


class VfioFile(IntEnum):
    """Attributes of VfioGroup.FILE; each takes the fd of a VFIO group or device as an int."""

    ADD = 1
    DEL = 2


class HypervEventfd(IntFlag):
    """``kvm_hyperv_eventfd.flags``."""

    DEASSIGN = 1 << 0


class HypervLimit(IntEnum):
    """``kvm_hyperv_eventfd.conn_id`` has these bits."""

    CONN_ID_MASK = 0x00FF_FFFF


class HypervExitKind(IntEnum):
    """``kvm_run.hyperv.type``."""

    SYNIC = 1
    HCALL = 2
    SYNDBG = 3


C_PREFIX: dict[type[IntEnum] | type[IntFlag], str] = {
    Routing: "KVM_IRQ_ROUTING_",
    MsiFlag: "KVM_MSI_",
    IrqfdFlag: "KVM_IRQFD_FLAG_",
    IoeventfdFlag: "KVM_IOEVENTFD_FLAG_",
    PitFlag: "KVM_PIT_FLAGS_",
    PitConfig: "KVM_PIT_",
    InterruptCount: "KVM_",
    DeviceType: "KVM_DEV_TYPE_",
    CreateDevice: "KVM_CREATE_DEVICE_",
    VfioGroup: "KVM_DEV_VFIO_",
    VfioFile: "KVM_DEV_VFIO_FILE_",
    HypervEventfd: "KVM_HYPERV_EVENTFD_",
    HypervLimit: "KVM_HYPERV_",
    HypervExitKind: "KVM_EXIT_HYPERV_",
}
"""Where the kernel keeps each enum's names."""
