"""A virtual processor: its fd, the page it shares with the kernel, and KVM_RUN."""

from errno import EFAULT, EINTR
from functools import cache
from typing import Any

from kvmharness.abi.binding import IOCTLS, VCPU, ArgumentError, Fd, ffi, ioctl, ioctl_error, ioctl_value, lib
from kvmharness.abi.constants import PAGE_BYTES, Cap, ExitReason, IoDirection
from kvmharness.kvm.arguments import typed_errors
from kvmharness.kvm.device import Device
from kvmharness.kvm.exits import Exit, IntrExit, decode
from kvmharness.kvm.resources import FdHolder, Mapping
from kvmharness.kvm.vcpu_requests import VcpuRequests
from kvmharness.kvm.vcpu_state import VcpuState

_KVM_RUN = IOCTLS["KVM_RUN"]
_RUN_NUMBER = _KVM_RUN.number
_PROT, _SHARED = lib.PROT_READ | lib.PROT_WRITE, lib.MAP_SHARED
_run_pointer = ffi.typeof("struct kvm_run *")
_ring_pointer = ffi.typeof("struct kvm_coalesced_mmio_ring *")
_ENTRY_BYTES = ffi.sizeof("struct kvm_coalesced_mmio")
_ENTRY_DATA = ffi.offsetof("struct kvm_coalesced_mmio", "data")
_RING_ENTRIES = (PAGE_BYTES - ffi.sizeof("struct kvm_coalesced_mmio_ring")) // _ENTRY_BYTES


@cache
def _signal_mask(signals: int) -> Any:
    """A ``struct kvm_signal_mask *``, which the kernel only reads: a guest's watchdog asks for the same each time."""
    mask = signals.to_bytes(8, "little")
    return ffi.new(IOCTLS["KVM_SET_SIGNAL_MASK"].pointer, {"len": len(mask), "sigset": mask})


@typed_errors
class Vcpu(VcpuState, VcpuRequests):
    """One vCPU. Made by :meth:`kvmharness.kvm.vm.Vm.create_vcpu`, and closed with its VM at the latest.

    Attributes:
        id: as given at its creation; also its APIC id.
        kvm: the device it comes from.
        kvm_run: the shared page, ``struct kvm_run *``; None once closed. Copy out what is to be kept.
    """

    __slots__ = ("_mapping", "_stats", "id", "kvm", "kvm_run")

    def __init__(self, number: int, vcpu_id: int, kvm: Device, vm: Fd) -> None:
        self.handle = FdHolder(number, VCPU, "vCPU", vm)
        self.id = vcpu_id
        self.kvm = kvm
        self.kvm_run: Any = None
        self._stats: FdHolder | None = None
        try:
            size = kvm.get_vcpu_mmap_size()
            self._mapping = Mapping(size, _PROT, _SHARED, number, "kvm_run of a vCPU")
        except BaseException:
            self.handle.close()
            raise
        self.kvm_run = ffi.cast(_run_pointer, self._mapping.address)

    @property
    def kvm_run_address(self) -> int:
        """hva of the shared page, for a native run loop."""
        return self._mapping.address

    def run(self, *, resume: bool = True) -> Exit:
        """KVM_RUN until an exit; signals whose handlers return only delay it.

        Args:
            resume: False to come back with IntrExit after a signal, once Python's handlers have run. In either case
                `immediate_exit` ends the run with IntrExit, and is cleared.

        Raises:
            IoctlError: the kernel refused to run the vCPU.
            Whatever a signal handler raises, KeyboardInterrupt among them; the vCPU can be run again.
        """
        run = self.kvm_run
        while True:
            if ioctl_value(self.handle.number, _RUN_NUMBER, 0) >= 0:
                return decode(run)
            errno = ffi.errno
            if errno == EINTR:  # the interpreter has called the handlers before this line
                if run.immediate_exit:
                    run.immediate_exit = 0
                    return IntrExit()
                if not resume:
                    return IntrExit()
            elif errno == EFAULT and run.exit_reason == ExitReason.MEMORY_FAULT:
                return decode(run)
            else:
                raise ioctl_error(self.handle, _KVM_RUN, errno, f"on vCPU {self.id}")

    def set_io_data(self, data: bytes) -> None:
        """What the IN instruction of the last IoExit reads.

        Raises:
            ArgumentError: the last exit was another one, or wants another number of bytes.
        """
        run = self._shared()
        if run.exit_reason != ExitReason.IO or run.io.direction != IoDirection.IN:
            raise ValueError("the last exit was not an IN")
        wanted = run.io.size * run.io.count
        if len(data) != wanted:
            raise ValueError(f"{len(data)} bytes for an IN of {wanted}")
        ffi.memmove(ffi.cast("char *", run) + run.io.data_offset, data, wanted)

    def set_mmio_data(self, data: bytes) -> None:
        """What the load of the last MmioExit reads.

        Raises:
            ArgumentError: the last exit was another one, or wants another number of bytes.
        """
        run = self._shared()
        if run.exit_reason != ExitReason.MMIO or run.mmio.is_write:
            raise ValueError("the last exit was not an MMIO read")
        if len(data) != run.mmio.len:
            raise ValueError(f"{len(data)} bytes for an MMIO read of {run.mmio.len}")
        ffi.memmove(run.mmio.data, data, len(data))

    def coalesced(self) -> bytes:
        """The bytes that guests wrote to coalesced ports since this was asked last, in order, of all vCPUs of the VM.

        For ports of one byte. Where several vCPUs run, one thread may ask at a time.
        Source: api.rst, "KVM_(UN)REGISTER_COALESCED_MMIO"; linux/kvm.h, struct kvm_coalesced_mmio_ring.
        """
        page = self.kvm.check_extension(Cap.COALESCED_MMIO)
        ring = ffi.cast(_ring_pointer, ffi.cast("char *", self._shared()) + page * PAGE_BYTES)
        first, last = ring.first, ring.last
        if first == last:
            return b""
        entries = bytes(ffi.buffer(ring.coalesced_mmio, _RING_ENTRIES * _ENTRY_BYTES))
        at, end = first * _ENTRY_BYTES, last * _ENTRY_BYTES
        written = entries[at:end] if first < last else entries[at:] + entries[:end]
        ring.first = last
        return written[_ENTRY_DATA::_ENTRY_BYTES]

    def _shared(self) -> Any:
        if self.kvm_run is None:
            raise ArgumentError(f"vCPU {self.id} is closed")
        return self.kvm_run

    def set_signal_mask(self, signals: int | None) -> None:
        """Which signals are blocked during KVM_RUN only.

        Args:
            signals: bit n-1 for signal n, as the kernel's 64-bit sigset; None leaves the thread's own mask.
        """
        op = IOCTLS["KVM_SET_SIGNAL_MASK"]
        if signals is None:
            ioctl(self.handle, op, ffi.cast(op.pointer, 0))
            return
        ioctl(self.handle, op, _signal_mask(signals))

    def get_stats_fd(self) -> int:
        """An fd to read this vCPU's statistics from. The vCPU owns it: the same one each time."""
        if self._stats is None:
            self._stats = FdHolder(ioctl(self.handle, IOCTLS["KVM_GET_STATS_FD"]), 0, f"statistics of vCPU {self.id}")
        return self._stats.number

    def close(self) -> None:
        """Gives back the fds and the shared page; harmless when called again."""
        self.kvm_run = None
        if self._stats is not None:
            self._stats.close()
        self._mapping.close()
        self.handle.close()
