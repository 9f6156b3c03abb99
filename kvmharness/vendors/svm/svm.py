"""AMD's SVM."""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType

from kvmharness.vendors.svm import l1
from kvmharness.vendors.svm.names import NAMES
from kvmharness.vendors.vendor import FirstEntry, L2Exit, Range
from kvmharness.x86.cpuid import Feature
from kvmharness.x86.paging import KERNEL, PageTables, Pte
from kvmharness.x86.radix import RadixTables
from kvmharness.x86.registers import LONG_MODE_CR4, Cr4
from kvmharness.x86.svm import INVALID, SvmExit, describe_svm_exit


class _Svm:
    """See :class:`kvmharness.vendors.vendor.Vendor`."""

    names = NAMES
    feature = Feature.SVM
    l1_program = "l1_svm"
    l2_program = "l2_svm"
    l2_calls = "l2_calls_svm"
    l1_moves_cr3 = True
    invept = False
    exits: type[IntEnum] = SvmExit
    counted: tuple[str, ...] = (
        "VMRUN",
        "VMMCALL",
        "WRITE_CR3",
        "IOIO",
        "INTR",
        "EXCEPTION_PF",
        "NPF",
        "MSR",
        "INVLPG",
        "STGI",
        "CLGI",
    )
    msrs: Mapping[int, int] = MappingProxyType({})

    def cr4(self, *, pcid: bool) -> int:
        """CR4 of L1, and of L2, which needs nothing else."""
        return int(LONG_MODE_CR4) | (Cr4.PCIDE if pcid else 0)

    def nested_space(self, base_gpa: int, ranges: Sequence[Range]) -> tuple[RadixTables, int]:
        """Ordinary page tables, and the N_CR3 that selects them.

        Every access of L2 counts as one of user mode, and the walk of L2's own tables as a write. Source: APM vol. 2,
        "Nested Table Walk".
        """
        tables = PageTables(base_gpa)
        for each in ranges:
            tables.map(each.gpa, each.target, each.page_bytes, KERNEL | Pte.US, page_bytes=each.page_bytes)
        return tables, tables.root_gpa

    def pages(self, entry: FirstEntry) -> dict[int, bytes]:
        """The VMCB. A CR3 of L1 is not in it: L1 moves to it itself."""
        return {l1.Region.VMCB: l1.vmcb_page(entry, cr4=self.cr4(pcid=entry.pcid))}

    def symbols(self) -> dict[str, int]:
        """VMCB fields, exit codes, MSRs, and where L1's regions are."""
        return l1.symbols()

    def describe(self, exit_: L2Exit) -> tuple[bool, str]:
        """VMEXIT_INVALID is a refused entry. Source: APM vol. 2, "Canonicalization and Consistency Checks"."""
        return exit_.reason == INVALID, describe_svm_exit(exit_.reason, exit_.qualification, exit_.second)


SVM = _Svm()
