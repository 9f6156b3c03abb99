"""Dirty rings: each vCPU lists the pages that its guest writes, in place of one bitmap for the VM.

Source: api.rst, "KVM_CAP_DIRTY_LOG_RING/KVM_CAP_DIRTY_LOG_RING_ACQ_REL".
"""

from typing import Any, NamedTuple

from kvmharness.abi.binding import ArgumentError, ffi, lib
from kvmharness.abi.constants import PAGE_BYTES, Cap
from kvmharness.abi.features import DirtyGfn, PageOffset
from kvmharness.kvm.resources import Mapping, Owner
from kvmharness.kvm.vcpu import Vcpu
from kvmharness.kvm.vm import Vm

_ENTRY_BYTES = ffi.sizeof("struct kvm_dirty_gfn")
_DEFAULT_BYTES = 64 * 1024
_PROT = lib.PROT_READ | lib.PROT_WRITE
_DIRTY, _RESET = DirtyGfn.DIRTY, DirtyGfn.RESET


class DirtyPage(NamedTuple):
    """A page that was written: its memslot's number, and which page of the slot it is."""

    slot: int
    page: int


class DirtyRings:
    """Rings for all vCPUs of a VM, enabled before the first one::

        rings = DirtyRings(vm)
        vcpu = vm.create_vcpu()
        with rings.of(vcpu) as ring:
            vcpu.run()
            pages = ring.collect()
            vm.reset_dirty_rings()  # from now on writes to these pages are seen again

    There is no dirty log then: get_dirty_log() is refused with ENXIO. Slots without MemFlag.LOG_DIRTY_PAGES are not
    in the rings either.

    Args:
        vm: without vCPUs.
        size_bytes: of each ring: a power of two, at most what KVM_CAP_DIRTY_LOG_RING answers, and more than what KVM
            keeps in reserve: 64 entries of 16 bytes, 576 where the processor logs pages itself (PML). A guest that
            fills its ring up to these gets DirtyRingFullExit.

    Raises:
        MissingCapabilityError: this KVM has no dirty rings.
        IoctlError: EINVAL for a size that is none, or a VM that has vCPUs.
    """

    __slots__ = ("_size_bytes", "_vm")

    def __init__(self, vm: Vm, size_bytes: int = _DEFAULT_BYTES) -> None:
        vm.enable_cap(Cap.DIRTY_LOG_RING, size_bytes)
        self._vm = vm
        self._size_bytes = size_bytes

    def of(self, vcpu: Vcpu) -> "DirtyRing":
        """Maps the ring of one vCPU.

        Raises:
            ArgumentError: it is not one of the VM's. The kernel would map it, and kill this process when it is read.
        """
        if vcpu not in self._vm.vcpus:
            raise ArgumentError(f"vCPU {vcpu.id} is not of the VM that has these dirty rings")
        return DirtyRing(vcpu, self._size_bytes)


class DirtyRing(Owner):
    """The ring of one vCPU, made by :meth:`DirtyRings.of`; a context manager, closed before the vCPU.

    One thread collects; the vCPU may run meanwhile.
    """

    __slots__ = ("_count", "_entries", "_mapping", "_next")

    def __init__(self, vcpu: Vcpu, size_bytes: int) -> None:
        offset = PageOffset.DIRTY_LOG_PAGE_OFFSET * PAGE_BYTES
        what = f"dirty ring of vCPU {vcpu.id}"
        self._mapping = Mapping(size_bytes, _PROT, lib.MAP_SHARED, vcpu.fd, what, offset=offset)
        self._entries: Any = ffi.cast("struct kvm_dirty_gfn *", self._mapping.address)
        self._count = size_bytes // _ENTRY_BYTES
        self._next = 0

    def collect(self) -> list[DirtyPage]:
        """The pages that were written since this was called last, oldest first, and marks them for the reset.

        Raises:
            ArgumentError: the ring is closed.
        """
        if self._entries is None:
            raise ArgumentError(f"{self._mapping.what} is closed")
        pages: list[DirtyPage] = []
        while True:
            entry = self._entries[self._next % self._count]
            if entry.flags & (_DIRTY | _RESET) != _DIRTY:
                return pages
            pages.append(DirtyPage(entry.slot, entry.offset))
            entry.flags = _RESET
            self._next += 1

    def close(self) -> None:
        """Unmaps the ring; harmless when called again."""
        self._entries = None
        self._mapping.close()
