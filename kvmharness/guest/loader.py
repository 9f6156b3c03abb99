"""Puts a program into a VM: memory, descriptor tables and registers, as the program's contract says."""

from collections.abc import Mapping
from functools import cache

from kvmharness.guest import contract
from kvmharness.guest.image import Image
from kvmharness.guest.layout import Place, symbols
from kvmharness.kvm.memory import Memory
from kvmharness.kvm.vcpu import Vcpu
from kvmharness.kvm.vm import Vm
from kvmharness.x86.registers import LONG_MODE_CR0, LONG_MODE_CR4, LONG_MODE_EFER, Rflags
from kvmharness.x86.segments import gdt, idt, long_mode_segments, tss
from kvmharness.x86.vmcs12 import DescriptorTables

_EXCEPTION_STUB_BYTES = 5  # a near call, see guests/exceptions.inc
_VECTORS = 32
_RFLAGS = int(Rflags.FIXED)

_GDT = int(Place.DESCRIPTORS)
_TSS = _GDT + 0x100
_IDT = _GDT + 0x200

TABLES = DescriptorTables(gdt_base=_GDT, idt_base=_IDT, tss_base=_TSS)
"""Where the descriptor tables of every long-mode guest are."""


@cache
def names() -> dict[str, int]:
    """The named values that contracts may use."""
    return symbols()


def add_memory(vm: Vm, image: Image) -> Memory:
    """Adds the memory that the contract asks for, one memslot, and places the program's bytes in it.

    Raises:
        UsageError: the contract cannot be read, or asks for more than one range.
    """
    use = contract.memory(image, names())[0]
    memory = vm.add_memory(use.gpa, use.size_bytes)
    memory.write(image.origin, image.code)
    return memory


def write_pages(memory: Memory, pages: Mapping[int, bytes]) -> None:
    """Writes gpa -> bytes."""
    for gpa, data in pages.items():
        memory.write(gpa, data)


def enter_long_mode(vcpu: Vcpu, memory: Memory, image: Image, *, cr3: int, cr4: int = int(LONG_MODE_CR4)) -> None:
    """Makes the vCPU start at the program's ``entry`` in 64-bit mode at CPL 0 with IF = 0.

    Args:
        vcpu: with its CPUID set, since CR4's bits depend on it.
        memory: gets the descriptor tables; exceptions lead to the program's ``exception_vectors`` if it has them.
        image: for the entry and the registers of its contract.
        cr3, cr4: as they will be at the first instruction.

    Raises:
        IoctlError: KVM refuses the state.
        UsageError: the contract cannot be read.
    """
    vectors = image.symbols.get("exception_vectors")
    handlers = {} if vectors is None else {v: vectors + _EXCEPTION_STUB_BYTES * v for v in range(_VECTORS)}
    write_pages(memory, {_GDT: gdt(_TSS), _TSS: tss(rsp0=Place.STACK_TOP), _IDT: idt(handlers, vectors=_VECTORS)})
    sregs = vcpu.get_struct("KVM_GET_SREGS")  # edited in place, here and below: a VM is made often
    for name, segment in long_mode_segments(_TSS).items():
        setattr(sregs, name, segment.kvm_fields())
    sregs.gdt.base, sregs.gdt.limit = TABLES.gdt_base, TABLES.gdt_limit
    sregs.idt.base, sregs.idt.limit = TABLES.idt_base, TABLES.idt_limit
    sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer = int(LONG_MODE_CR0), cr3, cr4, int(LONG_MODE_EFER)
    vcpu.set_struct("KVM_SET_SREGS", sregs)
    _set_registers(vcpu, image)


def enter_real_mode(vcpu: Vcpu, image: Image) -> None:
    """Makes the vCPU start at the program's ``entry`` in real mode, all segments based at 0."""
    sregs = vcpu.get_struct("KVM_GET_SREGS")
    sregs.cs.base = sregs.cs.selector = 0
    vcpu.set_struct("KVM_SET_SREGS", sregs)
    _set_registers(vcpu, image)


def _set_registers(vcpu: Vcpu, image: Image) -> None:
    regs = vcpu.get_struct("KVM_GET_REGS")
    regs.rip, regs.rflags = image.symbols["entry"], _RFLAGS
    for name, value in contract.registers(image, names()).items():
        setattr(regs, name, value)
    vcpu.set_struct("KVM_SET_REGS", regs)
