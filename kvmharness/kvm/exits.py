"""Why KVM_RUN came back, as frozen objects copied out of the shared page, which the next KVM_RUN overwrites.

Source: api.rst, "The kvm_run structure".
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from kvmharness.abi.binding import ffi
from kvmharness.abi.constants import ExitReason, InternalErrorKind, IoDirection, MsrExitReason, SystemEvent
from kvmharness.kvm.value import Value
from kvmharness.lean.dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UnknownExit(Value):
    """A reason that this package has no type for.

    `raw` is the start of kvm_run's union as it was.
    """

    reason: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class HardwareUnknownExit(Value):
    """KVM_EXIT_UNKNOWN: the processor left the guest for a reason that KVM does not know."""

    hardware_exit_reason: int


@dataclass(frozen=True, slots=True)
class ExceptionExit(Value):
    """KVM_EXIT_EXCEPTION: an exception that KVM hands on."""

    exception: int
    error_code: int


@dataclass(frozen=True, slots=True)
class IoExit(Value):
    """KVM_EXIT_IO: IN or OUT. For OUT, `data` is what the guest wrote: `count` items of `size` bytes.

    For IN, answer with :meth:`kvmharness.kvm.vcpu.Vcpu.set_io_data` before the next run.
    """

    direction: IoDirection
    size: int
    port: int
    count: int
    data: bytes

    @property
    def value(self) -> int:
        """The data as one little-endian number."""
        return int.from_bytes(self.data, "little")


@dataclass(frozen=True, slots=True)
class MmioExit(Value):
    """KVM_EXIT_MMIO: an access to a gpa without memslot, or a write to a read-only one."""

    phys_addr: int
    data: bytes
    is_write: bool


@dataclass(frozen=True, slots=True)
class HypercallExit(Value):
    """KVM_EXIT_HYPERCALL: a hypercall that userspace asked to see."""

    nr: int
    args: tuple[int, ...]
    longmode: bool


@dataclass(frozen=True, slots=True)
class DebugExit(Value):
    """KVM_EXIT_DEBUG: a breakpoint or a single step asked for by KVM_SET_GUEST_DEBUG."""

    exception: int
    pc: int
    dr6: int
    dr7: int


@dataclass(frozen=True, slots=True)
class HltExit(Value):
    """KVM_EXIT_HLT: the guest halted, and there is no local APIC in the kernel to wait in."""


@dataclass(frozen=True, slots=True)
class IrqWindowOpenExit(Value):
    """KVM_EXIT_IRQ_WINDOW_OPEN: the guest can take an interrupt, as `request_interrupt_window` asked."""


@dataclass(frozen=True, slots=True)
class ShutdownExit(Value):
    """KVM_EXIT_SHUTDOWN: a triple fault."""


@dataclass(frozen=True, slots=True)
class FailEntryExit(Value):
    """KVM_EXIT_FAIL_ENTRY: the processor refused to enter the guest.

    `hardware_entry_failure_reason` is a VMX exit reason with bit 31 set, a VM-instruction error, or an SVM exit code.
    """

    hardware_entry_failure_reason: int
    cpu: int


@dataclass(frozen=True, slots=True)
class IntrExit(Value):
    """KVM_EXIT_INTR: a signal, or `immediate_exit`, ended the run."""


@dataclass(frozen=True, slots=True)
class SetTprExit(Value):
    """KVM_EXIT_SET_TPR: the guest lowered CR8."""


@dataclass(frozen=True, slots=True)
class TprAccessExit(Value):
    """KVM_EXIT_TPR_ACCESS: the guest touched the task-priority register."""

    rip: int
    is_write: bool


@dataclass(frozen=True, slots=True)
class NmiExit(Value):
    """KVM_EXIT_NMI: an NMI of the host."""


@dataclass(frozen=True, slots=True)
class InternalErrorExit(Value):
    """KVM_EXIT_INTERNAL_ERROR: KVM could not go on.

    `instruction` holds the bytes that could not be emulated, where KVM gives them.
    """

    suberror: int
    data: tuple[int, ...]
    instruction: bytes = b""

    @property
    def kind(self) -> str:
        """The suberror's name, or its number."""
        try:
            return InternalErrorKind(self.suberror).name
        except ValueError:
            return str(self.suberror)


@dataclass(frozen=True, slots=True)
class SystemEventExit(Value):
    """KVM_EXIT_SYSTEM_EVENT: the guest asked for a reset, a shutdown, and the like."""

    type: int
    data: tuple[int, ...]

    @property
    def kind(self) -> str:
        """The event's name, or its number."""
        try:
            return SystemEvent(self.type).name
        except ValueError:
            return str(self.type)


@dataclass(frozen=True, slots=True)
class IoapicEoiExit(Value):
    """KVM_EXIT_IOAPIC_EOI: an end of interrupt for the I/O APIC that userspace emulates."""

    vector: int


@dataclass(frozen=True, slots=True)
class HypervExit(Value):
    """KVM_EXIT_HYPERV, with the hypercall's or MSR's data as it was."""

    type: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class XenExit(Value):
    """KVM_EXIT_XEN: a Xen hypercall."""

    type: int
    input: int
    params: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MsrExit(Value):
    """KVM_EXIT_X86_RDMSR or _WRMSR: an MSR access left to userspace by KVM_CAP_X86_USER_SPACE_MSR."""

    is_write: bool
    index: int
    data: int
    reason: MsrExitReason


@dataclass(frozen=True, slots=True)
class DirtyRingFullExit(Value):
    """KVM_EXIT_DIRTY_RING_FULL: collect the dirty ring, then go on."""


@dataclass(frozen=True, slots=True)
class ApResetHoldExit(Value):
    """KVM_EXIT_AP_RESET_HOLD: an SEV-ES vCPU waits for SIPI."""


@dataclass(frozen=True, slots=True)
class BusLockExit(Value):
    """KVM_EXIT_X86_BUS_LOCK: the guest locked the bus."""


@dataclass(frozen=True, slots=True)
class NotifyExit(Value):
    """KVM_EXIT_NOTIFY: the guest opened no event window for too long."""

    flags: int


@dataclass(frozen=True, slots=True)
class MemoryFaultExit(Value):
    """KVM_EXIT_MEMORY_FAULT: arrives with EFAULT from KVM_RUN. Needs KVM_CAP_MEMORY_FAULT_INFO (Linux 6.8)."""

    flags: int
    gpa: int
    size_bytes: int


Exit = (
    UnknownExit
    | HardwareUnknownExit
    | ExceptionExit
    | IoExit
    | MmioExit
    | HypercallExit
    | DebugExit
    | HltExit
    | IrqWindowOpenExit
    | ShutdownExit
    | FailEntryExit
    | IntrExit
    | SetTprExit
    | TprAccessExit
    | NmiExit
    | InternalErrorExit
    | SystemEventExit
    | IoapicEoiExit
    | HypervExit
    | XenExit
    | MsrExit
    | DirtyRingFullExit
    | ApResetHoldExit
    | BusLockExit
    | NotifyExit
    | MemoryFaultExit
)
"""Any of them."""

_HLT = HltExit()
_io_exit = lru_cache(64)(IoExit)  # a guest's doorbells are few, and ring often
_DIRECTIONS = (IoDirection.IN, IoDirection.OUT)
_UNION_BYTES = 256
_EMULATION_HAS_BYTES = 1 << 0  # KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES
_char_pointer = ffi.typeof("char *")


def _raw(run: Any) -> bytes:
    return bytes(ffi.buffer(run.padding, _UNION_BYTES))


def _io(run: Any) -> IoExit:
    io = run.io
    size, count = io.size, io.count
    data = b""
    if io.direction:
        data = bytes(ffi.buffer(ffi.cast(_char_pointer, run) + io.data_offset, size * count))
    return _io_exit(_DIRECTIONS[io.direction], size, io.port, count, data)


def _mmio(run: Any) -> MmioExit:
    mmio = run.mmio
    return MmioExit(mmio.phys_addr, bytes(mmio.data)[: mmio.len], bool(mmio.is_write))


def _hypercall(run: Any) -> HypercallExit:
    call = run.hypercall
    return HypercallExit(call.nr, tuple(call.args), bool(call.longmode))


def _debug(run: Any) -> DebugExit:
    arch = run.debug.arch
    return DebugExit(arch.exception, arch.pc, arch.dr6, arch.dr7)


def _internal(run: Any) -> InternalErrorExit:
    error = run.internal
    data = tuple(error.data[0 : min(error.ndata, 16)])
    instruction = b""
    failure = run.emulation_failure
    if error.suberror == InternalErrorKind.EMULATION and error.ndata and failure.flags & _EMULATION_HAS_BYTES:
        instruction = bytes(failure.insn_bytes)[: failure.insn_size]
    return InternalErrorExit(error.suberror, data, instruction)


def _system_event(run: Any) -> SystemEventExit:
    event = run.system_event
    return SystemEventExit(event.type, tuple(event.data[0 : min(event.ndata, 16)]))


def _msr(run: Any) -> MsrExit:
    msr = run.msr
    return MsrExit(run.exit_reason == ExitReason.X86_WRMSR, msr.index, msr.data, MsrExitReason(msr.reason))


def _memory_fault(run: Any) -> MemoryFaultExit:
    fault = run.memory_fault
    return MemoryFaultExit(fault.flags, fault.gpa, fault.size)


_DECODERS: dict[int, Any] = {
    ExitReason.UNKNOWN: lambda run: HardwareUnknownExit(run.hw.hardware_exit_reason),
    ExitReason.EXCEPTION: lambda run: ExceptionExit(run.ex.exception, run.ex.error_code),
    ExitReason.IO: _io,
    ExitReason.HYPERCALL: _hypercall,
    ExitReason.DEBUG: _debug,
    ExitReason.HLT: lambda run: _HLT,
    ExitReason.MMIO: _mmio,
    ExitReason.IRQ_WINDOW_OPEN: lambda run: IrqWindowOpenExit(),
    ExitReason.SHUTDOWN: lambda run: ShutdownExit(),
    ExitReason.FAIL_ENTRY: lambda run: FailEntryExit(run.fail_entry.hardware_entry_failure_reason, run.fail_entry.cpu),
    ExitReason.INTR: lambda run: IntrExit(),
    ExitReason.SET_TPR: lambda run: SetTprExit(),
    ExitReason.TPR_ACCESS: lambda run: TprAccessExit(run.tpr_access.rip, bool(run.tpr_access.is_write)),
    ExitReason.NMI: lambda run: NmiExit(),
    ExitReason.INTERNAL_ERROR: _internal,
    ExitReason.SYSTEM_EVENT: _system_event,
    ExitReason.IOAPIC_EOI: lambda run: IoapicEoiExit(run.eoi.vector),
    ExitReason.HYPERV: lambda run: HypervExit(run.hyperv.type, _raw(run)),
    ExitReason.XEN: lambda run: XenExit(run.xen.type, run.xen.u.hcall.input, tuple(run.xen.u.hcall.params)),
    ExitReason.X86_RDMSR: _msr,
    ExitReason.X86_WRMSR: _msr,
    ExitReason.DIRTY_RING_FULL: lambda run: DirtyRingFullExit(),
    ExitReason.AP_RESET_HOLD: lambda run: ApResetHoldExit(),
    ExitReason.X86_BUS_LOCK: lambda run: BusLockExit(),
    ExitReason.NOTIFY: lambda run: NotifyExit(run.notify.flags),
    ExitReason.MEMORY_FAULT: _memory_fault,
}


def decode(run: Any) -> Exit:
    """Copies the exit out of a ``struct kvm_run *``."""
    decoder = _DECODERS.get(run.exit_reason)
    if decoder is None:
        return UnknownExit(run.exit_reason, _raw(run))
    exit_: Exit = decoder(run)
    return exit_
