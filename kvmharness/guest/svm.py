"""L1 as an SVM hypervisor: the VMCB and the nested page tables, as pages to place in guest memory."""

from collections.abc import Sequence

from kvmharness.errors import HostRequirementError
from kvmharness.guest.image import Image
from kvmharness.guest.layout import Action, Place
from kvmharness.guest.loader import TABLES
from kvmharness.guest.rows import RoundTrip
from kvmharness.guest.shipped import image
from kvmharness.guest.spaces import Range
from kvmharness.kvm.memory import Memory
from kvmharness.kvm.vcpu import Vcpu
from kvmharness.x86.paging import KERNEL, PageTables, Pte
from kvmharness.x86.registers import LONG_MODE_CR4, LONG_MODE_EFER, Cr4, Efer
from kvmharness.x86.svm import vmcb
from kvmharness.x86.vmcs12 import GuestState

ASID = 1  # constant, as a VPID is

# The exits that round trips make, and those that would betray something else going on.
COUNTED_EXITS = (
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


class Svm:
    """L1 as an SVM hypervisor, see :class:`kvmharness.guest.hypervisor.Hypervisor`."""

    program = "l1_svm"
    l2_program = "l2_svm"
    l1_moves_cr3 = True

    def cr4(self, *, pcid: bool) -> int:
        """CR4 of L1, and of L2, which needs nothing else."""
        return int(LONG_MODE_CR4) | (Cr4.PCIDE if pcid else 0)

    def nested_space(self, base_gpa: int, ranges: Sequence[Range]) -> tuple[bytes, int]:
        """Ordinary page tables, and the N_CR3 that selects them.

        Every access of L2 counts as one of user mode, and the walk of L2's own tables as a write. Source: APM vol. 2,
        "Nested Table Walk".
        """
        tables = PageTables(base_gpa)
        for each in ranges:
            tables.map(each.gpa, each.target, each.page_bytes, KERNEL | Pte.US, page_bytes=each.page_bytes)
        return tables.image, tables.root_gpa

    def place(self, vcpu: Vcpu, memory: Memory, l1: Image, first: RoundTrip, *, pcid: bool, vpid: bool) -> None:
        """Places L2 and its VMCB. A CR3 of L1 is in neither: L1 moves to it itself.

        Raises:
            HostRequirementError: a round trip is to execute INVEPT, which SVM does not have.
        """
        if first.actions & Action.INVEPT:
            raise HostRequirementError(
                "INVEPT is an instruction of VMX, and this host has SVM", "Leave out invept_every, or use --host vmx."
            )
        l2 = image(self.l2_program)
        memory.write(l2.origin, l2.code)
        memory.write(Place.VMCB, vmcb_page(l2, first, cr4=self.cr4(pcid=pcid), vpid=vpid))


def vmcb_page(l2: Image, first: RoundTrip, *, cr4: int, vpid: bool) -> bytes:
    """The VMCB to start with.

    Args:
        l2: the image, for RIP.
        first: its operands; every round trip writes its own. An EPTP of 0 means no nested paging for L2.
        cr4: of L2.
        vpid: L2's translations may stay from entry to entry; otherwise each entry flushes them.
    """
    efer = int(LONG_MODE_EFER | Efer.SVME)
    guest = GuestState(l2.symbols["entry"], rsp=0, cr3=first.guest_cr3, tables=TABLES, cr4=cr4, efer=efer)
    # An exception in L2 is always a mistake: let L1 see it rather than L2 run through L1's handlers.
    return vmcb(guest, n_cr3=first.eptp or None, asid=ASID, flush=not vpid, exceptions=0xFFFF_FFFF)
