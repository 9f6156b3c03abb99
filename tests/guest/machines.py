"""Small guests for tests: a few lines of assembly in a VM of their own, with L1's tables and handlers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from kvmharness.guest import loader
from kvmharness.guest.assembler import assemble
from kvmharness.guest.build import build
from kvmharness.guest.image import Image
from kvmharness.guest.layout import Place
from kvmharness.guest.names import named_values
from kvmharness.guest.runloop import RunLoop
from kvmharness.guest.shipped import run_loop, source_folder
from kvmharness.guest.source import parse_text
from kvmharness.kvm.capabilities import capabilities, cpuid_table
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
        defaults=CONTRACT,
    )
    return assemble(program, named_values(), Place.L1_CODE)


@contextmanager
def long_mode(image: Image | str, *, native: bool | None = True) -> Iterator[Guest]:
    """An image, or source text, at its entry; `native` is None where Python's loop will do as well."""
    image = inline(image) if isinstance(image, str) else image
    with Kvm.open() as kvm:
        offered = capabilities(kvm)
        blueprint = loader.program(image, offered)
        with build(kvm, blueprint, cpuid_table(offered.cpuid), None if native is False else run_loop()) as made:
            if native and made.loop.fallback_reason:
                pytest.skip(f"this host forbids the assembled run loop: {made.loop.fallback_reason}")
            yield Guest(made.vm, made.vcpu, made.memory, made.loop, image)
