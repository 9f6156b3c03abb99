"""The parts of a vCPU's state as objects: read one, change a field, write it back. Names are the kernel's."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from kvmharness.abi.binding import ffi
from kvmharness.kvm.value import Value
from kvmharness.lean.dataclasses import dataclass
from kvmharness.x86.segments import Segment

_CData = ffi.CData
_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")


class _KernelStruct(Value):
    """Conversion from and to the struct with the same field names; padding is left out, and written as zero."""

    __slots__ = ()
    _nested: ClassVar[dict[str, type[_KernelStruct]]] = {}  # by field name: the structs inside this one

    @classmethod
    def from_struct(cls, source: Any) -> Self:
        """Copies the fields out of the kernel's struct."""
        nested = cls._nested
        values = []
        for name in cls.__match_args__:
            value = getattr(source, name)
            if isinstance(value, _CData):
                value = nested[name].from_struct(value) if name in nested else tuple(value)
            values.append(value)
        return cls(*values)

    def to_struct(self, target: Any) -> None:
        """Copies the fields into the kernel's struct."""
        for name in self.__match_args__:
            value = getattr(self, name)
            if isinstance(value, _KernelStruct):
                value.to_struct(getattr(target, name))
            else:
                setattr(target, name, value)


@dataclass(slots=True)
class Regs(_KernelStruct):
    """``struct kvm_regs``: general registers. RFLAGS bit 1 is always set in a processor."""

    rax: int = 0
    rbx: int = 0
    rcx: int = 0
    rdx: int = 0
    rsi: int = 0
    rdi: int = 0
    rsp: int = 0
    rbp: int = 0
    r8: int = 0
    r9: int = 0
    r10: int = 0
    r11: int = 0
    r12: int = 0
    r13: int = 0
    r14: int = 0
    r15: int = 0
    rip: int = 0
    rflags: int = 2


@dataclass(slots=True)
class DescriptorTable(_KernelStruct):
    """``struct kvm_dtable``: GDTR or IDTR. `limit` is the offset of the last byte."""

    base: int = 0
    limit: int = 0


def _read_segment(source: Any) -> Segment:
    return Segment(
        source.base,
        source.limit,
        source.selector,
        source.type,
        source.present,
        source.dpl,
        source.db,
        source.s,
        source.l,
        source.g,
        source.avl,
        source.unusable,
    )


class _SegmentedStruct(_KernelStruct):
    """A struct that begins with the eight segment registers and the two descriptor-table registers."""

    __slots__ = ()

    @classmethod
    def from_struct(cls, source: Any) -> Self:
        values: list[Any] = [_read_segment(getattr(source, name)) for name in _SEGMENTS]
        values += [DescriptorTable.from_struct(source.gdt), DescriptorTable.from_struct(source.idt)]
        for name in cls.__match_args__[len(values) :]:
            value = getattr(source, name)
            values.append(tuple(value) if isinstance(value, _CData) else value)
        return cls(*values)

    def to_struct(self, target: Any) -> None:
        for name in self.__match_args__:
            value = getattr(self, name)
            if isinstance(value, Segment):
                setattr(target, name, value.kvm_fields())
            elif isinstance(value, DescriptorTable):
                value.to_struct(getattr(target, name))
            else:
                setattr(target, name, value)


@dataclass(slots=True)
class Sregs(_SegmentedStruct):
    """``struct kvm_sregs``: segment, control and system registers."""

    cs: Segment
    ds: Segment
    es: Segment
    fs: Segment
    gs: Segment
    ss: Segment
    tr: Segment
    ldt: Segment
    gdt: DescriptorTable
    idt: DescriptorTable
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    cr8: int
    efer: int
    apic_base: int
    interrupt_bitmap: tuple[int, ...] = (0, 0, 0, 0)


@dataclass(slots=True)
class Sregs2(_SegmentedStruct):
    """``struct kvm_sregs2``: as Sregs, with the PDPTRs of PAE paging in place of the interrupt bitmap."""

    cs: Segment
    ds: Segment
    es: Segment
    fs: Segment
    gs: Segment
    ss: Segment
    tr: Segment
    ldt: Segment
    gdt: DescriptorTable
    idt: DescriptorTable
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    cr8: int
    efer: int
    apic_base: int
    flags: int = 0
    pdptrs: tuple[int, ...] = (0, 0, 0, 0)


@dataclass(slots=True)
class Fpu(_KernelStruct):
    """``struct kvm_fpu``: x87 and SSE state. Each register of `fpr` and `xmm` is 16 bytes."""

    fpr: tuple[bytes, ...]
    fcw: int
    fsw: int
    ftwx: int
    last_opcode: int
    last_ip: int
    last_dp: int
    xmm: tuple[bytes, ...]
    mxcsr: int

    @classmethod
    def from_struct(cls, source: Any) -> Self:
        values: list[Any] = []
        for name in cls.__match_args__:
            value = getattr(source, name)
            values.append(tuple(map(bytes, value)) if isinstance(value, _CData) else value)
        return cls(*values)


@dataclass(slots=True)
class DebugRegs(_KernelStruct):
    """``struct kvm_debugregs``."""

    db: tuple[int, ...] = (0, 0, 0, 0)
    dr6: int = 0xFFFF0FF0  # the value after reset
    dr7: int = 0x400
    flags: int = 0


@dataclass(slots=True)
class ExceptionEvent(_KernelStruct):
    """``kvm_vcpu_events.exception``."""

    injected: int = 0
    nr: int = 0
    has_error_code: int = 0
    pending: int = 0
    error_code: int = 0


@dataclass(slots=True)
class InterruptEvent(_KernelStruct):
    """``kvm_vcpu_events.interrupt``."""

    injected: int = 0
    nr: int = 0
    soft: int = 0
    shadow: int = 0


@dataclass(slots=True)
class NmiEvent(_KernelStruct):
    """``kvm_vcpu_events.nmi``."""

    injected: int = 0
    pending: int = 0
    masked: int = 0


@dataclass(slots=True)
class SmiEvent(_KernelStruct):
    """``kvm_vcpu_events.smi``."""

    smm: int = 0
    pending: int = 0
    smm_inside_nmi: int = 0
    latched_init: int = 0


@dataclass(slots=True)
class TripleFaultEvent(_KernelStruct):
    """``kvm_vcpu_events.triple_fault``."""

    pending: int = 0


@dataclass(slots=True)
class VcpuEvents(_KernelStruct):
    """``struct kvm_vcpu_events``: what is pending or injected; `flags` are :class:`VcpuEventValid` bits."""

    exception: ExceptionEvent
    interrupt: InterruptEvent
    nmi: NmiEvent
    sipi_vector: int
    flags: int
    smi: SmiEvent
    triple_fault: TripleFaultEvent
    exception_has_payload: int = 0
    exception_payload: int = 0

    _nested: ClassVar[dict[str, type[_KernelStruct]]] = {
        "exception": ExceptionEvent,
        "interrupt": InterruptEvent,
        "nmi": NmiEvent,
        "smi": SmiEvent,
        "triple_fault": TripleFaultEvent,
    }


@dataclass(slots=True)
class ClockData(_KernelStruct):
    """``struct kvm_clock_data``: kvmclock in ns; `flags` are :class:`ClockFlag` bits and say what else is valid."""

    clock: int
    flags: int = 0
    realtime: int = 0
    host_tsc: int = 0


@dataclass(frozen=True, slots=True)
class Translation(Value):
    """What KVM_TRANSLATE found: the gpa of a gva, or `valid` False. KVM does not fill in the rights on x86."""

    physical_address: int
    valid: bool
    writeable: bool
    usermode: bool
