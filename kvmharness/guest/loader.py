"""Makes a program's blueprint: its memory, descriptor tables and registers, as the program's contract says."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from kvmharness.abi.binding import ffi
from kvmharness.guest import contract, faults, rows, shipped, spaces
from kvmharness.guest.blueprint import Blueprint
from kvmharness.guest.image import Image
from kvmharness.guest.layout import HOLE, MEMORY_BYTES, Mailbox, Place, Row
from kvmharness.guest.names import named_values
from kvmharness.kvm.capabilities import Capabilities
from kvmharness.x86.paging import PAGE_2M
from kvmharness.x86.registers import LONG_MODE_CR0, LONG_MODE_CR4, LONG_MODE_EFER, Rflags
from kvmharness.x86.segments import gdt, idt, long_mode_segments, tss
from kvmharness.x86.vmcs12 import DescriptorTables

_EXCEPTION_STUB_BYTES = 5  # a near call, see guests/exceptions.inc
_VECTORS = 32
_INTERRUPTIBLE = int(Rflags.FIXED | Rflags.IF)

_GDT = int(Place.DESCRIPTORS)
_TSS = _GDT + 0x100
_IDT = _GDT + 0x200
_MORE_TSSS = _GDT + 0x480
_TSS_STRIDE = 0x80

TABLES = DescriptorTables(gdt_base=_GDT, idt_base=_IDT, tss_base=_TSS)
"""Where the descriptor tables of every long-mode guest are."""

_NO_MSRS: Mapping[int, int] = MappingProxyType({})
_NONE: Mapping[int, bytes] = MappingProxyType({})


def program(image: Image, offered: Capabilities, *, of_a_test: bool = False) -> Blueprint:
    """A program in a VM of its own, in the mode of its contract; a long-mode one has one root, and its row.

    It starts with IF = 1. Nothing is injected into a guest whose VM has no interrupt controller, but some hosts (Bochs
    2.7) take no interrupt of their own, a time limit's among them, while a guest's IF is 0.

    Args:
        image: the program.
        offered: by the host's KVM.
        of_a_test: a long-mode program finds HOLE mapped, and exceptions that it has no handlers for lead to the host
            by :mod:`kvmharness.guest.faults`, not to a triple fault.

    Raises:
        UsageError: the contract cannot be read, or asks for more than one range.
    """
    if image.header["mode"].startswith("real16"):
        return real_mode(image, offered)
    mapped = HOLE + PAGE_2M if of_a_test else MEMORY_BYTES
    tables = spaces.build(host_roots=1, guest_roots=0, epts=0, identity_bytes=mapped)
    row = rows.RoundTrip(tables.host_cr3[0], spaces.host_tag(0))
    pages = tables.pages | {int(Place.ROWS): rows.encode([row]), **mailbox(1)}
    own = _fault_pages() if of_a_test and "exception_vectors" not in image.symbols else {}
    return long_mode(image, offered, pages, cr3=tables.host_cr3[0], rflags=_INTERRUPTIBLE, descriptors=own)


def _fault_pages() -> dict[int, bytes]:
    """An IDT that leads to the host, and a TSS with a stack for that."""
    image = shipped.image("faults")
    stacks = tss(rsp0=Place.STACK_TOP, ist=(faults.stack_top(0),))
    return {_TSS: stacks, _IDT: idt(faults.handlers(), vectors=_VECTORS, ist=1), image.origin: image.code}


def further_vcpu(sregs: bytes, number: int) -> tuple[bytes, dict[int, bytes]]:
    """What another vCPU of such a guest has of its own.

    Args:
        sregs: of the first one, as bytes of ``struct kvm_sregs``.
        number: from 1 on.

    Returns:
        Its own sregs, and gpa -> bytes of its TSS.
    """
    made = _struct("struct kvm_sregs *", sregs)
    made.tr.base = _MORE_TSSS + number * _TSS_STRIDE
    return bytes(ffi.buffer(made)), {made.tr.base: tss(rsp0=Place.STACK_TOP, ist=(faults.stack_top(number),))}


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
    descriptors: Mapping[int, bytes] = _NONE,
) -> Blueprint:
    """A guest that starts at the program's ``entry`` in 64-bit mode at CPL 0.

    Args:
        image: for the code, the entry, and the registers and memory of its contract.
        offered: by the host's KVM.
        pages: gpa -> bytes of whatever else it has in memory. Exceptions lead to the program's ``exception_vectors`` if
            it has them.
        cr3, cr4, rflags: as they will be at the first instruction.
        msrs: to set on the vCPU.
        descriptors: gpa -> bytes of tables in the place of those that every guest has.

    Raises:
        UsageError: the contract cannot be read.
    """
    usual = {_GDT: gdt(_TSS), _TSS: tss(rsp0=Place.STACK_TOP), _IDT: exceptions(image)}
    sregs = _struct("struct kvm_sregs *", offered.sregs)
    for name, segment in long_mode_segments(_TSS).items():
        setattr(sregs, name, segment.kvm_fields())
    sregs.gdt.base, sregs.gdt.limit = TABLES.gdt_base, TABLES.gdt_limit
    sregs.idt.base, sregs.idt.limit = TABLES.idt_base, TABLES.idt_limit
    sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer = int(LONG_MODE_CR0), cr3, cr4, int(LONG_MODE_EFER)
    return _blueprint(image, offered, {**pages, **usual, **descriptors}, sregs, msrs, rflags)


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
