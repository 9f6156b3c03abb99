"""L1 as an SVM hypervisor: the VMCB, as a page to place in guest memory."""

from enum import IntEnum

from kvmharness.vendors.vendor import FirstEntry
from kvmharness.x86.msr import Msr
from kvmharness.x86.registers import LONG_MODE_EFER, Efer
from kvmharness.x86.svm import INVALID, SvmExit, Vmcb, vmcb
from kvmharness.x86.vmcs12 import GuestState

ASID = 1  # constant, as a VPID is


class Region(IntEnum):
    """Guest physical addresses, in the vendor's part of L1's memory: see :mod:`kvmharness.guest.layout`."""

    VMCB = 0xA000  # of L2
    HOST_SAVE_AREA = 0xB000  # the processor's
    L2_RESET = 0xC000  # CS and SS of the VMCB without their bases, for after an exit in the middle of a row


# VMCB fields that the guest code names itself: everything else is in the VMCB from the beginning.
_VMCB = (
    *("CR3", "RIP", "RAX", "N_CR3", "EXITCODE", "EXITINFO1", "EXITINFO2"),
    *("TLB_CONTROL", "CS", "SS", "CPL", "RFLAGS", "RSP"),
)


def symbols() -> dict[str, int]:
    """The names that ``l1_svm.asm`` has for all this."""
    names = {region.name: int(region) for region in Region}
    names |= {f"VMCB_{name}": int(Vmcb[name]) for name in _VMCB}
    return names | {
        "EXIT_VMMCALL": int(SvmExit.VMMCALL),
        "EXIT_INVALID": INVALID,
        "MSR_EFER": int(Msr.EFER),
        "MSR_VM_HSAVE_PA": int(Msr.VM_HSAVE_PA),
        "EFER_SVME": int(Efer.SVME),
    }


def vmcb_page(entry: FirstEntry, *, cr4: int) -> bytes:
    """The VMCB to start with; an entry without nested tables gets no nested paging.

    Args:
        entry: what to start with; every round trip writes its own operands.
        cr4: of L2.
    """
    efer = int(LONG_MODE_EFER | Efer.SVME)
    guest = GuestState(entry.l2_entry, rsp=0, cr3=entry.guest_cr3, tables=entry.tables, cr4=cr4, efer=efer)
    # An exception in L2 is always a mistake: let L1 see it rather than L2 run through L1's handlers.
    return vmcb(guest, n_cr3=entry.nested or None, asid=ASID, flush=not entry.tagged, exceptions=0xFFFF_FFFF)
