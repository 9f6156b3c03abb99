"""All in which the vendors' virtualization differs, as one value each."""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

from kvmharness.lean.dataclasses import dataclass
from kvmharness.vendors.naming import VendorNames
from kvmharness.x86.cpuid import Feature
from kvmharness.x86.radix import RadixTables
from kvmharness.x86.vmcs12 import DescriptorTables


class Range(NamedTuple):
    """One page of L2's physical space, and where it lies in L1's. All in bytes."""

    gpa: int
    target: int
    page_bytes: int


@dataclass(frozen=True, slots=True)
class FirstEntry:
    """What L1 needs to know to enter L2 for the first time; every round trip writes its own operands later.

    Attributes:
        l1: labels of L1's program -> gpa.
        l2_entry: gpa of L2's first instruction.
        stack_top: of L1.
        tables: descriptor tables of both levels.
        host_cr3, guest_cr3: to start with.
        nested: the value that selects L2's nested page tables: EPTP or N_CR3; 0 for none.
        pcid: CR4.PCIDE on both levels.
        tagged: L2's translations have a constant tag of their own: VPID or ASID.
        capabilities: MSR -> value: what the vCPU's virtualization can do; empty where no MSR tells.
    """

    l1: Mapping[str, int]
    l2_entry: int
    stack_top: int
    tables: DescriptorTables
    host_cr3: int
    guest_cr3: int
    nested: int
    pcid: bool
    tagged: bool
    capabilities: Mapping[int, int]


class L2Exit(NamedTuple):
    """Why L2 left, as L1 found it: exit reason or code, what comes with it, and where L2 stood."""

    reason: int
    qualification: int
    second: int
    interruption_info: int
    rip: int


class Vendor(Protocol):
    """One vendor's virtualization, as L0 drives it, and as L1 uses it to run an L2.

    Attributes:
        names: its module, its parameters, what it is called.
        feature: the CPUID bit by which a guest is offered it.
        l1_program, l2_program: the guest programs that are L1 and L2.
        l2_calls: the one that is an L2 which calls the code of a test.
        l1_moves_cr3: L1 moves to its next CR3 before it enters L2, because the exit comes back to the one it had then.
        invept: L1 has an instruction that invalidates nested translations by their root.
        exits: every exit's code in the tracepoint kvm:kvm_exit.
        counted: names of the exits that round trips make, and of those that would betray something else going on.
        msrs: what a vCPU's MSRs are set to so that its guest can be a hypervisor.
    """

    names: VendorNames
    feature: Feature
    l1_program: str
    l2_program: str
    l2_calls: str
    l1_moves_cr3: bool
    invept: bool
    exits: type[IntEnum]
    counted: tuple[str, ...]
    msrs: Mapping[int, int]

    def cr4(self, *, pcid: bool) -> int:
        """CR4 of L1, with PCIDs enabled or not."""
        ...

    def nested_space(self, base_gpa: int, ranges: Sequence[Range]) -> tuple[RadixTables, int]:
        """The tables, placed at *base_gpa*, that map L2's physical space to L1's, and the value that selects them."""
        ...

    def pages(self, entry: FirstEntry) -> dict[int, bytes]:
        """gpa -> bytes of whatever L1 needs to enter L2.

        Raises:
            HostRequirementError: the vCPU's virtualization lacks what is asked for.
        """
        ...

    def symbols(self) -> dict[str, int]:
        """The names that L1's source has for the architecture and for the pages above, with their values."""
        ...

    def describe(self, exit_: L2Exit) -> tuple[bool, str]:
        """Whether the entry was refused rather than left again, and an exit that L1 did not expect in words."""
        ...


def exit_reasons(vendor: Vendor) -> dict[str, int]:
    """The exits worth counting one by one: name -> code in the tracepoint kvm:kvm_exit."""
    return {name: int(vendor.exits[name]) for name in vendor.counted}
