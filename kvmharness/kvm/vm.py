"""A virtual machine: memslots, vCPUs, devices in the kernel. It owns all of them."""

from collections.abc import Sequence
from typing import Any

from kvmharness.abi.binding import IOCTLS, VM, ffi, ioctl
from kvmharness.abi.constants import PAGE_BYTES, Cap, ClockFlag, MemFlag
from kvmharness.kvm.arguments import typed_errors
from kvmharness.kvm.device import Device
from kvmharness.kvm.memory import Memory
from kvmharness.kvm.resources import FdHolder
from kvmharness.kvm.state import ClockData
from kvmharness.kvm.vcpu import Vcpu
from kvmharness.kvm.vm_requests import VmRequests

_CREATE_VCPU = IOCTLS["KVM_CREATE_VCPU"]
_SET_REGION = IOCTLS["KVM_SET_USER_MEMORY_REGION"]
_BITS_PER_LONG = 64


@typed_errors
class Vm(VmRequests):
    """One VM. Made by :meth:`kvmharness.kvm.system.Kvm.create_vm`; a context manager.

    Each method named as an ioctl is that ioctl, and raises IoctlError when the kernel refuses, ArgumentError when it
    cannot be asked. Closing closes vCPUs and statistics first, then the VM, and unmaps guest memory last.

    Attributes:
        kvm: the device it comes from.
        handle: the fd with its owner.
        memory: what add_memory() made, by slot.
        vcpus: what create_vcpu() made.
    """

    __slots__ = ("__weakref__", "_page_counts", "_stats", "kvm", "memory", "vcpus")

    def __init__(self, number: int, kvm: Device) -> None:
        self.handle = FdHolder(number, VM, "VM")
        self.kvm = kvm
        self.memory: dict[int, Memory] = {}
        self.vcpus: list[Vcpu] = []
        self._page_counts: dict[int, int] = {}
        self._stats: FdHolder | None = None

    def check_extension(self, cap: int | Cap) -> int:
        """What this VM has of a capability: 0 for nothing. It may be less than what the device says."""
        return ioctl(self.handle, IOCTLS["KVM_CHECK_EXTENSION"], cap)

    def enable_cap(self, cap: int | Cap, *args: int, flags: int = 0) -> int:
        """Switches a capability on for this VM, with up to four 64-bit arguments."""
        return self._enable_cap(cap, args, flags)

    # Memory

    def set_user_memory_region(self, slot: int, gpa: int, size: int, hva: int, flags: int | MemFlag = 0) -> None:
        """Makes, moves, re-flags or (size 0) deletes a memslot over memory that the caller owns. Sizes in bytes."""
        ioctl(self.handle, _SET_REGION, ffi.new(_SET_REGION.pointer, (slot, flags, gpa, size, hva)))
        self._page_counts[slot] = size // PAGE_BYTES

    def set_user_memory_region2(
        self, slot: int, gpa: int, size: int, hva: int, flags: int | MemFlag = 0, memfd: int = 0, offset: int = 0
    ) -> None:
        """As set_user_memory_region(), with private memory besides. Needs KVM_CAP_USER_MEMORY2 (6.8).

        Args:
            slot, gpa, size, hva, flags: as there.
            memfd: fd of create_guest_memfd(), for MemFlag.GUEST_MEMFD.
            offset: of the slot's first byte in it.
        """
        fields = {"slot": slot, "flags": flags, "guest_phys_addr": gpa, "memory_size": size, "userspace_addr": hva}
        self.set_struct("KVM_SET_USER_MEMORY_REGION2", {**fields, "guest_memfd": memfd, "guest_memfd_offset": offset})
        self._page_counts[slot] = size // PAGE_BYTES

    def add_memory(
        self,
        gpa: int,
        size: int,
        *,
        slot: int | None = None,
        flags: int | MemFlag = 0,
        backing: Sequence[str] | None = None,
    ) -> Memory:
        """Zeroed guest memory under a memslot of its own, which the VM owns.

        Args:
            gpa: where the guest sees it, page aligned.
            size: in bytes, whole pages.
            slot: memslot number; the lowest free one by default.
            flags: MemFlag bits.
            backing: see :class:`kvmharness.kvm.memory.Memory`.

        Raises:
            ArgumentError: not whole pages, or the slot is in use.
            SystemCallError, HostRequirementError: it cannot be backed so.
        """
        if slot is None:
            slot = 0
            while slot in self.memory:
                slot += 1
        elif slot in self.memory:
            raise ValueError(f"memslot {slot} is in use")
        memory = Memory(gpa, size, slot, backing)
        try:
            self.set_user_memory_region(slot, gpa, size, memory.address, flags)
        except BaseException:
            memory.close()
            raise
        self.memory[slot] = memory
        return memory

    def delete_memory(self, slot: int) -> None:
        """Deletes a memslot that add_memory() made, and unmaps its memory. Frees all roots of the MMU.

        Raises:
            ArgumentError: there is no such slot.
        """
        if slot not in self.memory:
            raise ValueError(f"memslot {slot} is not one that add_memory() made")
        self.set_user_memory_region(slot, 0, 0, 0)
        self.memory.pop(slot).close()

    def get_dirty_log(self, slot: int) -> bytes:
        """One bit a page, first page in bit 0 of byte 0; the log starts anew, unless clearing is manual.

        Raises:
            ArgumentError: no such memslot is known here.
        """
        bitmap = self._bitmap(slot)
        struct = ffi.new("struct kvm_dirty_log *", {"slot": slot, "dirty_bitmap": bitmap})
        ioctl(self.handle, IOCTLS["KVM_GET_DIRTY_LOG"], struct)
        return bytes(ffi.buffer(bitmap))

    def clear_dirty_log(self, slot: int, first_page: int, num_pages: int, bitmap: bytes) -> None:
        """Starts the log anew for the pages whose bit is set. Needs KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2.

        Args:
            slot: memslot number.
            first_page: a multiple of 64; bit 0 of `bitmap` is this page.
            num_pages: a multiple of 64, or up to the slot's end.
            bitmap: at least `num_pages` bits.

        Raises:
            ArgumentError: the bitmap is too short.
        """
        if len(bitmap) * 8 < num_pages:
            raise ValueError(f"a bitmap of {len(bitmap)} bytes for {num_pages} pages")
        bits = ffi.new("char[]", bitmap)
        fields = {"slot": slot, "num_pages": num_pages, "first_page": first_page, "dirty_bitmap": bits}
        ioctl(self.handle, IOCTLS["KVM_CLEAR_DIRTY_LOG"], ffi.new("struct kvm_clear_dirty_log *", fields))

    def _bitmap(self, slot: int) -> Any:
        pages = self._page_counts.get(slot, 0)
        if not pages:
            raise ValueError(f"memslot {slot} does not exist")
        longs = (pages + _BITS_PER_LONG - 1) // _BITS_PER_LONG
        return ffi.new("char[]", longs * _BITS_PER_LONG // 8)

    # Processors and devices

    def create_vcpu(self, vcpu_id: int = 0) -> Vcpu:
        """A vCPU in the state after reset: real mode, at the reset vector."""
        number = ioctl(self.handle, _CREATE_VCPU, vcpu_id)
        vcpu = Vcpu(number, vcpu_id, self.kvm, self.handle)
        self.vcpus.append(vcpu)
        return vcpu

    def create_irqchip(self) -> None:
        """Both PICs, the I/O APIC and local APICs in the kernel; before the first vCPU."""
        ioctl(self.handle, IOCTLS["KVM_CREATE_IRQCHIP"])

    def enable_split_irqchip(self, routes: int = 24) -> None:
        """Local APICs in the kernel, PICs and I/O APIC left to userspace; before the first vCPU."""
        self.enable_cap(Cap.SPLIT_IRQCHIP, routes)

    def create_pit2(self, flags: int = 0) -> None:
        """The interval timer in the kernel; after create_irqchip()."""
        ioctl(self.handle, IOCTLS["KVM_CREATE_PIT2"], ffi.new("struct kvm_pit_config *", {"flags": flags}))

    def reinject_control(self, *, pit_reinject: bool) -> None:
        """Whether ticks of the timer that a guest has missed are given to it later; after create_pit2()."""
        struct = ffi.new("struct kvm_reinject_control *", {"pit_reinject": int(pit_reinject)})
        ioctl(self.handle, IOCTLS["KVM_REINJECT_CONTROL"], struct)

    def irq_line(self, irq: int, level: int) -> None:
        """Sets the level of an input of the interrupt controllers in the kernel: 1 asserts it, 0 takes it back."""
        ioctl(self.handle, IOCTLS["KVM_IRQ_LINE"], ffi.new("struct kvm_irq_level *", {"irq": irq, "level": level}))

    def coalesce_port(self, port: int, size: int = 1) -> None:
        """Has the kernel keep what guests write to ports, until :meth:`Vcpu.coalesced` asks or an exit is due anyway.

        Args:
            port: the first one.
            size: how many. Needs KVM_CAP_COALESCED_PIO.
        """
        self.register_coalesced_mmio(port, size, pio=True)

    def set_tss_addr(self, gpa: int) -> None:
        """Three pages below 4 GiB, outside of all memslots, that Intel hosts need for real mode."""
        ioctl(self.handle, IOCTLS["KVM_SET_TSS_ADDR"], gpa)

    def set_identity_map_addr(self, gpa: int) -> None:
        """One page, likewise; before the first vCPU. 0 restores the default."""
        ioctl(self.handle, IOCTLS["KVM_SET_IDENTITY_MAP_ADDR"], ffi.new("__u64 *", gpa))

    def set_nr_mmu_pages(self, pages: int) -> None:
        """How many shadow pages KVM keeps before it recycles them, at least 64; by default 2 % of the guest's pages."""
        ioctl(self.handle, IOCTLS["KVM_SET_NR_MMU_PAGES"], pages)

    def get_clock(self) -> ClockData:
        """kvmclock, in ns."""
        struct = ffi.new("struct kvm_clock_data *")
        ioctl(self.handle, IOCTLS["KVM_GET_CLOCK"], struct)
        return ClockData.from_struct(struct)

    def set_clock(self, clock: ClockData) -> None:
        """Sets kvmclock. Of the flags only REALTIME may be given."""
        struct = ffi.new("struct kvm_clock_data *")
        clock.replace(flags=clock.flags & ClockFlag.REALTIME).to_struct(struct)
        ioctl(self.handle, IOCTLS["KVM_SET_CLOCK"], struct)

    def get_stats_fd(self) -> int:
        """An fd to read the VM's statistics from. The VM owns it: the same one each time."""
        if self._stats is None:
            self._stats = FdHolder(ioctl(self.handle, IOCTLS["KVM_GET_STATS_FD"]), 0, "statistics of the VM")
        return self._stats.number

    def close(self) -> None:
        """Closes everything the VM owns, in the order the kernel wants; harmless when called again."""
        for vcpu in self.vcpus:
            vcpu.close()
        if self._stats is not None:
            self._stats.close()
        self.handle.close()
        for memory in self.memory.values():
            memory.close()
        self.vcpus.clear()
        self.memory.clear()
        self._page_counts.clear()
