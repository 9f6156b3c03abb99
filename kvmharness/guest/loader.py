"""Makes a program's blueprint: its memory, descriptor tables and registers, as the program's contract says."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from kvmharness.abi.binding import ffi
from kvmharness.guest import contract, rows, spaces
from kvmharness.guest.blueprint import Blueprint
from kvmharness.guest.image import Image
from kvmharness.guest.layout import Mailbox, Place, Row
from kvmharness.guest.names import named_values
from kvmharness.kvm.capabilities import Capabilities
from kvmharness.x86.registers import LONG_MODE_CR0, LONG_MODE_CR4, LONG_MODE_EFER, Rflags
from kvmharness.x86.segments import gdt, idt, long_mode_segments, tss
from kvmharness.x86.vmcs12 import DescriptorTables

_EXCEPTION_STUB_BYTES = 5  # a near call, see guests/exceptions.inc
_VECTORS = 32
_INTERRUPTIBLE = int(Rflags.FIXED | Rflags.IF)

_GDT = int(Place.DESCRIPTORS)
_TSS = _GDT + 0x100
_IDT = _GDT + 0x200

TABLES = DescriptorTables(gdt_base=_GDT, idt_base=_IDT, tss_base=_TSS)
"""Where the descriptor tables of every long-mode guest are."""

_NO_MSRS: Mapping[int, int] = MappingProxyType({})


def program(image: Image, offered: Capabilities) -> Blueprint:
    """A program in a VM of its own, in the mode of its contract; a long-mode one has one root, and its row.

    It starts with IF = 1. Nothing is injected into a guest whose VM has no interrupt controller, but some hosts (Bochs
    2.7) take no interrupt of their own, a time limit's among them, while a guest's IF is 0.

    Raises:
        UsageError: the contract cannot be read, or asks for more than one range.
    """
    if image.header["mode"].startswith("real16"):
        return real_mode(image, offered)
    tables = spaces.build(host_roots=1, guest_roots=0, epts=0)
    row = rows.RoundTrip(tables.host_cr3[0], spaces.host_tag(0))
    pages = tables.pages | {int(Place.ROWS): rows.encode([row]), **mailbox(1)}
    return long_mode(image, offered, pages, cr3=tables.host_cr3[0], rflags=_INTERRUPTIBLE)


def mailbox(rows: int) -> dict[int, bytes]:
    """gpa -> bytes of what the mailbox says before the first phase.

    Args:
        rows: how many operand rows lie in memory.
    """
    return {Place.MAILBOX + Mailbox.ROWS_END: (Place.ROWS + rows * Row.BYTES).to_bytes(8, "little")}


def long_mode(
    image: Image,
    offered: Capabilities,
    pages: Mapping[int, bytes],
    *,
    cr3: int,
    cr4: int = int(LONG_MODE_CR4),
    msrs: Mapping[int, int] = _NO_MSRS,
    rflags: int = int(Rflags.FIXED),
) -> Blueprint:
    """A guest that starts at the program's ``entry`` in 64-bit mode at CPL 0.

    Args:
        image: for the code, the entry, and the registers and memory of its contract.
        offered: by the host's KVM.
        pages: gpa -> bytes of whatever else it has in memory. Exceptions lead to the program's ``exception_vectors`` if
            it has them.
        cr3, cr4, rflags: as they will be at the first instruction.
        msrs: to set on the vCPU.

    Raises:
        UsageError: the contract cannot be read.
    """
    descriptors = {_GDT: gdt(_TSS), _TSS: tss(rsp0=Place.STACK_TOP), _IDT: exceptions(image)}
    sregs = _struct("struct kvm_sregs *", offered.sregs)
    for name, segment in long_mode_segments(_TSS).items():
        setattr(sregs, name, segment.kvm_fields())
    sregs.gdt.base, sregs.gdt.limit = TABLES.gdt_base, TABLES.gdt_limit
    sregs.idt.base, sregs.idt.limit = TABLES.idt_base, TABLES.idt_limit
    sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer = int(LONG_MODE_CR0), cr3, cr4, int(LONG_MODE_EFER)
    return _blueprint(image, offered, {**pages, **descriptors}, sregs, msrs, rflags)


def exceptions(image: Image) -> bytes:
    """The IDT that leads to a program's ``exception_vectors``; empty gates if it has none."""
    vectors = image.symbols.get("exception_vectors")
    handlers = {} if vectors is None else {v: vectors + _EXCEPTION_STUB_BYTES * v for v in range(_VECTORS)}
    return idt(handlers, vectors=_VECTORS)


def real_mode(image: Image, offered: Capabilities) -> Blueprint:
    """A guest that starts at the program's ``entry`` in real mode, all segments based at 0."""
    sregs = _struct("struct kvm_sregs *", offered.sregs)
    sregs.cs.base = sregs.cs.selector = 0
    return _blueprint(image, offered, {}, sregs, _NO_MSRS, _INTERRUPTIBLE)


def _blueprint(
    image: Image, offered: Capabilities, pages: Mapping[int, bytes], sregs: Any, msrs: Mapping[int, int], rflags: int
) -> Blueprint:
    use = contract.memory(image, named_values())[0]
    regs = _struct("struct kvm_regs *", offered.regs)
    regs.rip, regs.rflags = image.symbols["entry"], rflags
    for name, value in contract.registers(image, named_values()).items():
        setattr(regs, name, value)
    return Blueprint(
        gpa=use.gpa,
        size_bytes=use.size_bytes,
        pages={image.origin: image.code, **pages},
        msrs=msrs,
        sregs=bytes(ffi.buffer(sregs)),
        regs=bytes(ffi.buffer(regs)),
    )


def _struct(kind: str, state: bytes) -> Any:
    struct = ffi.new(kind)
    ffi.memmove(struct, state, len(state))
    return struct
