"""What a vendor's L1 needs to run litmus tests: its programs, and the rows and words in which the vendors differ."""

from collections.abc import Collection, Container, Mapping
from typing import NamedTuple, Protocol

from kvmharness.vendors.vendor import FirstEntry
from kvmharness.x86.cpuid import Feature

WISHES = {
    "nested": "nested paging for L2 (EPT or NPT)",
    "tag": "tags for L2's translations (VPID or ASID)",
    "large": "2 MB pages in nested tables",
    "accessed": "A and D bits in EPT",
    "invept": "INVEPT",
    "invvpid": "INVVPID",
    "vmfunc": "EPTP switching by VMFUNC",
    "refusals": "the checks of VMX on an entry",
    "invlpga": "INVLPGA",
    "flush": "TLB_CONTROL",
    "flush-asid": "TLB_CONTROL for one ASID",
    "invpcid-l2": "INVPCID in L2",
    "cr3-kept": "nested state with the CR3 that L2 moved to (kvm_intel without EPT saves another one)",
}
"""What tests may need of the vendor's virtualization, in words."""


class MsrBits(NamedTuple):
    """Bits of the vCPU's capability MSRs that must be 1, each MSR once: (MSR, mask)."""

    bits: tuple[tuple[int, int], ...]


Ask = MsrBits | Feature | None
"""By what a vCPU shows that it has one of the wishes: MSRs, or CPUID; None where every one has it."""

Words = tuple[str, int, int, int]
"""A row of the guest program: label of the code, and its operands A, B and C."""


class Entry(NamedTuple):
    """With what L1 enters L2.

    Attributes:
        guest_cr3: of L2.
        nested: EPTP or N_CR3; 0 for none.
        tag: VPID or ASID; 0 for none.
        moves: L1 is to be at another CR3 than it is now when it goes on.
        host_cr3, host_cr0, host_cr4, host_efer: what L1 goes on with after the exit.
        flush: "", "all", "one" or "keepglobal": what the entry flushes, where entries can be told.
    """

    guest_cr3: int
    nested: int
    tag: int
    host_cr3: int
    host_cr0: int
    host_cr4: int
    host_efer: int
    flush: str = ""
    moves: bool = False


class LitmusVendor(Protocol):
    """See the module.

    Attributes:
        l1_program, l2_program: the guest programs.
        asids: translations are tagged by an ASID alone, by SVM's rules; else by VPID and EPTP, by VMX's.
        efer: bits of EFER that every level has besides the usual ones.
        asks: of what the vendor has of :data:`WISHES`, how a vCPU shows that it has it.
    """

    l1_program: str
    l2_program: str
    asids: bool
    efer: int
    asks: Mapping[str, Ask]

    def ideal(self, wishes: Collection[str]) -> Mapping[int, int]:
        """The capabilities of a vCPU whose virtualization demands nothing, and offers no more than what is wished."""
        ...

    def pages(self, entry: FirstEntry, *, cr4: int, l2_idt: int, nested_roots: tuple[int, ...]) -> dict[int, bytes]:
        """gpa -> bytes of whatever L1 needs to enter an L2 that takes its own exceptions, by an IDT of its own.

        Raises:
            HostRequirementError: the vCPU's virtualization lacks what is asked for.
        """
        ...

    def nested_word(self, gpa: int, rights: str, *, large: bool) -> int:
        """An entry of a nested table that maps a page, with some of the rights r, w, x; 0 without any."""
        ...

    def entry_rows(self, entry: Entry, before: Entry | None, capabilities: Mapping[int, int]) -> tuple[Words, ...]:
        """What L1 does so that its next entry is this one.

        Args:
            entry: as it is to be.
            before: as the last one was; None for the first.
            capabilities: of the vCPU's virtualization.
        """
        ...

    def nested_fault(self, reason: int, detail: int, address: int) -> tuple[int, str] | None:
        """The gpa that a nested translation did not allow, and which right was lacking; None for any other exit."""
        ...

    def entry_refused(self, reason: int) -> str:
        """What an exit says about an entry that was refused late; empty for any other exit."""
        ...

    def accessed(self, word: int) -> str:
        """Which of A and D a nested entry has."""
        ...


def fulfilled(vendor: LitmusVendor, capabilities: Mapping[int, int], features: Container[Feature]) -> frozenset[str]:
    """What a test may ask for of :data:`WISHES`.

    Args:
        vendor: whose virtualization.
        capabilities: of the vCPU's virtualization.
        features: of the vCPU.
    """

    def has(ask: Ask) -> bool:
        if isinstance(ask, MsrBits):
            return all(capabilities.get(msr, 0) & mask == mask for msr, mask in ask.bits)
        return ask is None or ask in features

    return frozenset(wish for wish, ask in vendor.asks.items() if has(ask))
