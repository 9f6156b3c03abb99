"""The ioctls of a VM that few guests are run with; :class:`kvmharness.kvm.vm.Vm` has the others."""

from collections.abc import Iterable
from errno import ENODEV
from typing import Any

from kvmharness.abi.binding import IOCTLS, ArgumentError, ffi, ioctl, ioctl_error, ioctl_raw
from kvmharness.kvm.arguments import typed_errors
from kvmharness.kvm.lists import pack_list
from kvmharness.kvm.resources import FdHolder, KernelDevice, Level

_ONLY_ASK = 1  # CreateDevice.TEST
_SEV_COMMAND = ffi.typeof("struct kvm_sev_cmd *")


@typed_errors
class VmRequests(Level):
    """See :class:`kvmharness.kvm.resources.Level`. Constants: :mod:`kvmharness.abi` ``.interrupts``, ``.features``."""

    __slots__ = ()

    # Interrupt controllers

    def get_irqchip(self, chip_id: int) -> Any:
        """One of the interrupt controllers that create_irqchip() made, ``struct kvm_irqchip *``.

        Args:
            chip_id: of :class:`kvmharness.abi.constants.Irqchip`: says which arm of the struct's union counts.
        """
        op = IOCTLS["KVM_GET_IRQCHIP"]
        struct = ffi.new(op.pointer, {"chip_id": chip_id})
        ioctl(self.handle, op, struct)
        return struct

    def set_irqchip(self, chip: Any) -> None:
        """Puts back what get_irqchip() gave."""
        self.set_struct("KVM_SET_IRQCHIP", chip)

    def set_boot_cpu_id(self, vcpu_id: int) -> None:
        """Which vCPU is the boot processor; before the first vCPU. EBUSY afterwards."""
        ioctl(self.handle, IOCTLS["KVM_SET_BOOT_CPU_ID"], vcpu_id)

    def irq_line_status(self, irq: int, level: int) -> int:
        """As irq_line(), and says what became of it: below 0 ignored, 0 coalesced, else vCPUs that it went to."""
        op = IOCTLS["KVM_IRQ_LINE_STATUS"]
        struct = ffi.new(op.pointer, {"irq": irq, "level": level})
        ioctl(self.handle, op, struct)
        return int(struct.status)

    def set_gsi_routing(self, entries: Iterable[Any]) -> None:
        """Replaces the whole routing table. EINVAL for an entry that contradicts the VM's interrupt controllers.

        Args:
            entries: of ``struct kvm_irq_routing_entry``, for example
                ``{"gsi": 5, "type": Routing.MSI, "u": {"msi": {"address_lo": 0xFEE00000, "data": 0x40}}}``.
        """
        table = pack_list(IOCTLS["KVM_SET_GSI_ROUTING"], "nr", "entries", list(entries))
        ioctl(self.handle, IOCTLS["KVM_SET_GSI_ROUTING"], table)

    def signal_msi(self, address: int, data: int, *, flags: int = 0, devid: int = 0) -> bool:
        """Sends a message-signalled interrupt: whether it was delivered. Needs a local APIC in the kernel.

        Args:
            address: 64 bits; 0xFEE00000 and destination for x86.
            data: vector and delivery mode.
            flags: MsiFlag bits.
            devid: for MsiFlag.VALID_DEVID, which x86 has not.
        """
        low, high = address & 0xFFFF_FFFF, address >> 32
        fields = {"address_lo": low, "address_hi": high, "data": data, "flags": flags, "devid": devid}
        return self.set_struct("KVM_SIGNAL_MSI", fields) > 0

    # Timers

    def create_pit(self) -> None:
        """The interval timer in the kernel as KVM first had it; create_pit2() has a speaker port besides."""
        ioctl(self.handle, IOCTLS["KVM_CREATE_PIT"])

    def get_pit(self) -> Any:
        """The interval timer's channels, ``struct kvm_pit_state *``. ENXIO without one."""
        return self.get_struct("KVM_GET_PIT")

    def set_pit(self, state: Any) -> None:
        """Sets them."""
        self.set_struct("KVM_SET_PIT", state)

    def get_pit2(self) -> Any:
        """Channels and PitFlag bits, ``struct kvm_pit_state2 *``. ENXIO without a timer."""
        return self.get_struct("KVM_GET_PIT2")

    def set_pit2(self, state: Any) -> None:
        """Sets them."""
        self.set_struct("KVM_SET_PIT2", state)

    # Events

    def irqfd(self, fd: int, gsi: int, flags: int = 0, resamplefd: int = 0) -> None:
        """Raises an interrupt whenever an eventfd is written to.

        Args:
            fd: the eventfd.
            gsi: input of the routing table.
            flags: IrqfdFlag bits; DEASSIGN takes it back.
            resamplefd: for RESAMPLE, an eventfd that is written to when the guest has acknowledged the interrupt.
        """
        self.set_struct("KVM_IRQFD", {"fd": fd, "gsi": gsi, "flags": flags, "resamplefd": resamplefd})

    def ioeventfd(self, fd: int, addr: int, length: int, flags: int = 0, datamatch: int = 0) -> None:
        """Writes to an eventfd, in place of an exit, whenever the guest writes to an address.

        Args:
            fd: the eventfd.
            addr: a gpa, or with IoeventfdFlag.PIO a port.
            length: of the access: 1, 2, 4 or 8 bytes, 0 for any.
            flags: IoeventfdFlag bits; DEASSIGN takes it back.
            datamatch: for DATAMATCH, the value that counts.
        """
        fields = {"fd": fd, "addr": addr, "len": length, "flags": flags, "datamatch": datamatch}
        self.set_struct("KVM_IOEVENTFD", fields)

    def hyperv_eventfd(self, conn_id: int, fd: int, flags: int = 0) -> None:
        """Writes to an eventfd at a guest's HvSignalEvent with this connection id; HypervEventfd.DEASSIGN ends it."""
        self.set_struct("KVM_HYPERV_EVENTFD", {"conn_id": conn_id, "fd": fd, "flags": flags})

    def register_coalesced_mmio(self, addr: int, size: int, *, pio: bool = False) -> None:
        """Has the kernel keep what guests write to a range, in the ring behind ``kvm_run``; see also coalesce_port().

        Args:
            addr: a gpa, or with `pio` a port.
            size: of the range in bytes.
            pio: needs KVM_CAP_COALESCED_PIO.
        """
        self.set_struct("KVM_REGISTER_COALESCED_MMIO", {"addr": addr, "size": size, "pio": int(pio)})

    def unregister_coalesced_mmio(self, addr: int, size: int, *, pio: bool = False) -> None:
        """Takes back all that lies inside the range."""
        self.set_struct("KVM_UNREGISTER_COALESCED_MMIO", {"addr": addr, "size": size, "pio": int(pio)})

    # Devices

    def create_device(self, kind: int) -> KernelDevice:
        """A device in the kernel, which the caller closes before the VM. ENODEV where this KVM has no such type.

        Args:
            kind: of :class:`kvmharness.abi.interrupts.DeviceType`.
        """
        return KernelDevice(self.handle, kind)

    def has_device(self, kind: int) -> bool:
        """Whether create_device() would make one: the same ioctl, with the flag that only asks."""
        op = IOCTLS["KVM_CREATE_DEVICE"]
        _, errno = ioctl_raw(self.handle, op, ffi.new(op.pointer, {"type": kind, "flags": _ONLY_ASK}))
        if errno and errno != ENODEV:
            raise ioctl_error(self.handle, op, errno, f"of type {kind}")
        return not errno

    # Xen: constants in kvmharness.abi.xen

    def xen_hvm_config(self, config: Any) -> None:
        """Offers the guest Xen's hypercalls: ``struct kvm_xen_hvm_config``."""
        self.set_struct("KVM_XEN_HVM_CONFIG", config)

    def xen_hvm_get_attr(self, kind: int) -> Any:
        """One XenAttr of the VM, ``struct kvm_xen_hvm_attr *``."""
        op = IOCTLS["KVM_XEN_HVM_GET_ATTR"]
        struct = ffi.new(op.pointer, {"type": kind})
        ioctl(self.handle, op, struct)
        return struct

    def xen_hvm_set_attr(self, attr: Any) -> None:
        """Sets one, for example ``{"type": XenAttr.LONG_MODE, "u": {"long_mode": 1}}``."""
        self.set_struct("KVM_XEN_HVM_SET_ATTR", attr)

    def xen_hvm_evtchn_send(self, port: int, vcpu: int, priority: int) -> bool:
        """Delivers an event to a guest's event channel: whether it was not pending already."""
        fields = {"port": port, "vcpu": vcpu, "priority": priority}
        return self.set_struct("KVM_XEN_HVM_EVTCHN_SEND", fields) > 0

    # Memory

    def create_guest_memfd(self, size: int, flags: int = 0) -> FdHolder:
        """Memory that only guests may see; whole pages, which the caller closes. Needs KVM_CAP_GUEST_MEMFD (6.8)."""
        op = IOCTLS["KVM_CREATE_GUEST_MEMFD"]
        return FdHolder(ioctl(self.handle, op, ffi.new(op.pointer, {"size": size, "flags": flags})), 0, "guest_memfd")

    def set_memory_attributes(self, address: int, size: int, attributes: int) -> None:
        """Makes a range of gpas private (MemoryAttribute.PRIVATE) or shared (0).

        Needs a VM type that has private memory, which KVM_CAP_MEMORY_ATTRIBUTES of the VM says (6.8).
        """
        fields = {"address": address, "size": size, "attributes": attributes}
        self.set_struct("KVM_SET_MEMORY_ATTRIBUTES", fields)

    def reset_dirty_rings(self) -> int:
        """Write-protects again what has been collected from the dirty rings: how many pages."""
        return ioctl(self.handle, IOCTLS["KVM_RESET_DIRTY_RINGS"])

    def get_nr_mmu_pages(self) -> int:
        """What set_nr_mmu_pages() set; 0 before. Kernels since 6.3 do not know any more."""
        return ioctl(self.handle, IOCTLS["KVM_GET_NR_MMU_PAGES"])

    def memory_encrypt_op(self, command: Any = None) -> int:
        """A command to the security processor.

        Args:
            command: ``struct kvm_sev_cmd *``, with a SevCommand and the address of its struct; None asks whether there
                is SEV at all. Its field `error` is the firmware's answer.
        """
        op = IOCTLS["KVM_MEMORY_ENCRYPT_OP"]
        if command is None:
            command = ffi.NULL
        elif not isinstance(command, ffi.CData) or ffi.typeof(command) is not _SEV_COMMAND:
            raise ArgumentError(f"KVM_MEMORY_ENCRYPT_OP takes a pointer to struct kvm_sev_cmd, not {command!r}")
        return ioctl(self.handle, op, ffi.cast(op.pointer, command))

    def memory_encrypt_reg_region(self, address: int, size: int) -> None:
        """Pins memory of this process (hva, bytes) that an encrypted guest is to use."""
        self.set_struct("KVM_MEMORY_ENCRYPT_REG_REGION", (address, size))

    def memory_encrypt_unreg_region(self, address: int, size: int) -> None:
        """Takes back exactly one such range."""
        self.set_struct("KVM_MEMORY_ENCRYPT_UNREG_REGION", (address, size))

    # Filters and clocks

    def x86_set_msr_filter(self, msr_filter: Any) -> None:
        """Which MSRs guests may read and write: ``struct kvm_msr_filter``, see :mod:`kvmharness.kvm.msr_filter`.

        What it denies is #GP, or an exit where KVM_CAP_X86_USER_SPACE_MSR is enabled with MsrExitReason.FILTER.
        """
        self.set_struct("KVM_X86_SET_MSR_FILTER", msr_filter)

    def set_pmu_event_filter(
        self, action: int, events: Iterable[int], *, fixed_counter_bitmap: int = 0, flags: int = 0
    ) -> None:
        """Which events guests may count.

        Args:
            action: PmuEvent.ALLOW allows only these events, DENY all but these.
            events: event select and unit mask, or as :class:`MaskedEntry` says with PmuEventFlag.MASKED_EVENTS.
            fixed_counter_bitmap: the same for fixed counters, bit n for counter n.
            flags: PmuEventFlag bits.
        """
        op = IOCTLS["KVM_SET_PMU_EVENT_FILTER"]
        table = pack_list(op, "nevents", "events", list(events))
        table.action, table.fixed_counter_bitmap, table.flags = action, fixed_counter_bitmap, flags
        ioctl(self.handle, op, table)

    def get_tsc_khz(self) -> int:
        """Frequency in kHz that new vCPUs get. Needs KVM_CAP_VM_TSC_CONTROL."""
        return ioctl(self.handle, IOCTLS["KVM_GET_TSC_KHZ"])

    def set_tsc_khz(self, khz: int) -> None:
        """Sets it; before the first vCPU."""
        ioctl(self.handle, IOCTLS["KVM_SET_TSC_KHZ"], khz)
