"""The one interface behind which the vendors' virtualization differs, seen from L1's guest program."""

from typing import Protocol

from kvmharness.guest.image import Image
from kvmharness.guest.rows import RoundTrip
from kvmharness.kvm.memory import Memory
from kvmharness.kvm.vcpu import Vcpu


class Hypervisor(Protocol):
    """How L1 runs an L2.

    Attributes:
        program: the guest program that is L1.
    """

    program: str

    def cr4(self, *, pcid: bool) -> int:
        """CR4 of L1, with PCIDs enabled or not."""
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


def hypervisor() -> Hypervisor:
    """The one for this host's processor."""
    from kvmharness.guest.vmx import Vmx

    return Vmx()


def exit_reasons(vendor_module: str | None) -> dict[str, int]:
    """The exits worth counting one by one: name -> code in the tracepoint kvm:kvm_exit; empty for an unknown vendor.

    Args:
        vendor_module: the KVM module in use, "kvm_intel" for example.
    """
    if vendor_module == "kvm_intel":
        from kvmharness.guest.vmx import COUNTED_EXITS
        from kvmharness.x86.vmx_exits import VmxExit

        return {name: int(VmxExit[name]) for name in COUNTED_EXITS}
    return {}
