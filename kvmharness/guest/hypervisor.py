"""The one interface behind which the vendors' virtualization differs, seen from L1's guest program."""

from collections.abc import Sequence
from typing import Protocol

from kvmharness.abi.constants import NestedFormat
from kvmharness.guest.image import Image
from kvmharness.guest.rows import RoundTrip
from kvmharness.guest.spaces import Range
from kvmharness.kvm.memory import Memory
from kvmharness.kvm.nested import nested_kind
from kvmharness.kvm.system import Kvm
from kvmharness.kvm.vcpu import Vcpu


class Hypervisor(Protocol):
    """How L1 runs an L2.

    Attributes:
        program, l2_program: the guest programs that are L1 and L2.
        l1_moves_cr3: L1 moves to its next CR3 before it enters L2, because the exit comes back to the one it had then.
    """

    program: str
    l2_program: str
    l1_moves_cr3: bool

    def cr4(self, *, pcid: bool) -> int:
        """CR4 of L1, with PCIDs enabled or not."""
        ...

    def nested_space(self, base_gpa: int, ranges: Sequence[Range]) -> tuple[bytes, int]:
        """The tables, placed at *base_gpa*, that map L2's physical space to L1's, and the value that selects them."""
        ...

    def place(self, vcpu: Vcpu, memory: Memory, l1: Image, first: RoundTrip, *, pcid: bool, vpid: bool) -> None:
        """Places L2 and whatever L1 needs to enter it into guest memory.

        Args:
            vcpu: L1's, with its CPUID set.
            memory: of the guest.
            l1: its image.
            first: the operands of the first round trip.
            pcid: CR4.PCIDE on both levels.
            vpid: give L2 a constant VPID (ASID).

        Raises:
            HostRequirementError: the vCPU's virtualization lacks what is asked for.
        """
        ...


def hypervisor(kvm: Kvm) -> Hypervisor:
    """The one for what this host's KVM offers to guests; VMX's where it offers nothing."""
    if nested_kind(kvm) is NestedFormat.SVM:
        from kvmharness.guest.svm import Svm

        return Svm()
    from kvmharness.guest.vmx import Vmx

    return Vmx()


def exit_reasons(vendor_module: str | None) -> dict[str, int]:
    """The exits worth counting one by one: name -> code in the tracepoint kvm:kvm_exit; empty for an unknown vendor.

    Args:
        vendor_module: the KVM module in use, "kvm_intel" for example.
    """
    if vendor_module == "kvm_intel":
        from kvmharness.guest import vmx
        from kvmharness.x86.vmx_exits import VmxExit

        return {name: int(VmxExit[name]) for name in vmx.COUNTED_EXITS}
    if vendor_module == "kvm_amd":
        from kvmharness.guest import svm
        from kvmharness.x86.svm import SvmExit

        return {name: int(SvmExit[name]) for name in svm.COUNTED_EXITS}
    return {}
