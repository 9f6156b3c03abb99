"""What a unit test's guest finds at ports and addresses: the devices that make QEMU's test machine. Runs inside.

The exit port takes the code that the test ends with; 0x2000 and up are the inputs of the interrupt controllers; 0xE0 is
scratch; 0xE4 takes a gpa, whose page the host then maps anew; at 0xFF000000 lies memory that only exits can reach.
Everything else reads as ones, as on a bus where nobody answers.
Source: QEMU, docs/specs/pc-testdev, "isa-debug-exit" and "pc-testdev".
"""

from kvmharness.abi.binding import SystemCallError, ffi, lib
from kvmharness.abi.constants import PAGE_BYTES, IoDirection
from kvmharness.kvm.exits import IoExit, MmioExit
from kvmharness.kvm.vcpu import Vcpu
from kvmharness.suites.unittests.vmm import Vmm

_EXIT, _SCRATCH, _FLUSH = 0xF4, 0xE0, 0xE4
_SCRATCH_BYTES = 4
_IRQS, _IRQ_COUNT = 0x2000, 24
_WINDOW, _WINDOW_BYTES = 0xFF00_0000, 0x1_0000


class Devices:
    """The devices of one VM; several vCPUs may be at them at the same time."""

    def __init__(self, vmm: Vmm) -> None:
        self._vmm = vmm
        self._scratch = bytearray(_SCRATCH_BYTES)
        self._window = bytearray(_WINDOW_BYTES)

    def port(self, vcpu: Vcpu, exit_: IoExit) -> int | None:
        """Serves an IN or OUT; gives the code of one that ends the test."""
        if exit_.direction == IoDirection.IN:
            vcpu.set_io_data(self._read(exit_.port, exit_.size) * exit_.count)
            return None
        if _EXIT <= exit_.port < _EXIT + 4:
            return int.from_bytes(exit_.data[: exit_.size], "little")
        for at in range(0, len(exit_.data), exit_.size):
            self._write(exit_.port, exit_.data[at : at + exit_.size])
        return None

    def memory(self, vcpu: Vcpu, exit_: MmioExit) -> None:
        """Serves an access to where there is no memory."""
        at, size = exit_.phys_addr - _WINDOW, len(exit_.data)
        inside = 0 <= at <= _WINDOW_BYTES - size
        if exit_.is_write:
            if inside:
                self._window[at : at + size] = exit_.data
        else:
            vcpu.set_mmio_data(bytes(self._window[at : at + size]) if inside else b"\xff" * size)

    def _read(self, port: int, size: int) -> bytes:
        if _SCRATCH <= port <= _SCRATCH + _SCRATCH_BYTES - size:
            return bytes(self._scratch[port - _SCRATCH : port - _SCRATCH + size])
        return b"\xff" * size

    def _write(self, port: int, data: bytes) -> None:
        if _SCRATCH <= port <= _SCRATCH + _SCRATCH_BYTES - len(data):
            self._scratch[port - _SCRATCH : port - _SCRATCH + len(data)] = data
        elif port == _FLUSH:
            self._flush(int.from_bytes(data, "little"))
        elif _IRQS <= port < _IRQS + _IRQ_COUNT:
            self._vmm.vm.irq_line(port - _IRQS, int(any(data)))

    def _flush(self, gpa: int) -> None:
        """Has the kernel forget a page's mapping, in KVM's tables too, and come upon it anew."""
        hva = self._vmm.page(gpa)
        if not hva:
            return
        page = ffi.cast("void *", hva)
        for protection in (0, lib.PROT_READ | lib.PROT_WRITE):
            if lib.mprotect(page, PAGE_BYTES, protection) < 0:
                raise SystemCallError("mprotect of a page of guest memory", ffi.errno)
