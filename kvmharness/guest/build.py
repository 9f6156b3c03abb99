"""Builds a guest from its blueprint: ioctls and copies of bytes, nothing is computed here."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kvmharness.abi.binding import IOCTLS, ffi
from kvmharness.guest.blueprint import Blueprint
from kvmharness.guest.runloop import RunLoop
from kvmharness.kvm.capabilities import TSS_GPA
from kvmharness.kvm.memory import Memory
from kvmharness.kvm.system import Kvm
from kvmharness.kvm.vcpu import Vcpu
from kvmharness.kvm.vm import Vm
from kvmharness.lean.dataclasses import dataclass

# By default KVM keeps 64 for so small a guest: with a dozen roots to shadow, each round trip would recycle some.
SHADOW_PAGES = 1024


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest that has not run yet.

    Attributes:
        vm, vcpu, memory: what it is made of; the VM owns the other two.
        loop: runs the vCPU.
    """

    vm: Vm
    vcpu: Vcpu
    memory: Memory
    loop: RunLoop


@contextmanager
def build(
    kvm: Kvm, blueprint: Blueprint, cpuid: Any, run_loop: bytes | None, backing: Sequence[str] | None = None
) -> Iterator[Guest]:
    """Builds a guest, and takes it down again.

    Args:
        kvm: the open device.
        blueprint: what the guest is.
        cpuid: ``struct kvm_cpuid2 *`` for its vCPU.
        run_loop: the assembled run loop, or None for Python's.
        backing: of its memory, see :class:`kvmharness.kvm.memory.Memory`.

    Raises:
        IoctlError, MsrError: KVM refuses something.
    """
    with kvm.create_vm() as vm:
        # Every vCPU starts in real mode, for which KVM needs a TSS of its own on Intel without unrestricted guest.
        vm.set_tss_addr(TSS_GPA)
        vm.set_nr_mmu_pages(SHADOW_PAGES)
        memory = vm.add_memory(blueprint.gpa, blueprint.size_bytes, backing=backing)
        memory.fill(blueprint.pages.items())
        vcpu = vm.create_vcpu()
        vcpu.set_struct("KVM_SET_CPUID2", cpuid)
        if blueprint.msrs:
            vcpu.set_msrs(blueprint.msrs)
        set_state(vcpu, "KVM_SET_SREGS", blueprint.sregs)
        set_state(vcpu, "KVM_SET_REGS", blueprint.regs)
        yield Guest(vm, vcpu, memory, RunLoop(vcpu, run_loop))


def set_state(vcpu: Vcpu, ioctl: str, state: bytes) -> None:
    """One of a vCPU's SET ioctls, with its struct as bytes."""
    struct = ffi.new(IOCTLS[ioctl].pointer)
    ffi.memmove(struct, state, len(state))
    vcpu.set_struct(ioctl, struct)
