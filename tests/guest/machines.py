"""Small guests for tests: a few lines of assembly in a VM of their own, with L1's tables and handlers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from kvmharness.abi.binding import SystemCallError
from kvmharness.guest import loader, spaces
from kvmharness.guest.assembler import assemble
from kvmharness.guest.image import Image
from kvmharness.guest.layout import Place
from kvmharness.guest.runloop import RunLoop
from kvmharness.guest.shipped import named_values, source_folder
from kvmharness.guest.source import parse_text
from kvmharness.kvm.memory import Memory
from kvmharness.kvm.system import Kvm
from kvmharness.kvm.vcpu import Vcpu
from kvmharness.kvm.vm import Vm

CONTRACT = {
    "purpose": "a test",
    "mode": "long64, CPL 0",
    "in": "rdi = MAILBOX; rbx = ROWS; rsp = STACK_TOP; r12 = 0x0",
    "out": "none",
    "clobber": "all",
    "memory": "0x0 MEMORY_BYTES everything",
    "exits": "whatever",
    "source": "none",
}


@dataclass(frozen=True)
class Guest:
    vm: Vm
    vcpu: Vcpu
    memory: Memory
    loop: RunLoop
    image: Image


def inline(text: str) -> Image:
    """Assembles source with all named values and the includes of the shipped guests."""
    program = parse_text(
        text,
        "inline.asm",
        name="inline",
        read_include=lambda name: (source_folder() / name).read_text(),
        header=CONTRACT,
    )
    return assemble(program, named_values(), Place.L1_CODE)


@contextmanager
def long_mode(image: Image | str, *, native: bool | None = None) -> Iterator[Guest]:
    """An image, or source text, at its entry in long mode."""
    image = inline(image) if isinstance(image, str) else image
    tables = spaces.build(1, 0, 0)
    with Kvm.open() as kvm, kvm.create_vm() as vm:
        memory = loader.add_memory(vm, image)
        loader.write_pages(memory, tables.pages)
        vcpu = vm.create_vcpu()
        vcpu.set_cpuid2(kvm.get_supported_cpuid())
        loader.enter_long_mode(vcpu, memory, image, cr3=tables.host_cr3[0])
        try:
            loop = RunLoop(vcpu, native=native)
        except SystemCallError as e:
            pytest.skip(f"this host forbids the assembled run loop: {e}")
        yield Guest(vm, vcpu, memory, loop, image)
