"""SVM for litmus tests."""

import struct
from collections.abc import Collection, Mapping
from types import MappingProxyType

from kvmharness.vendors.litmus import Ask, Entry, Words
from kvmharness.vendors.svm.l1 import ASID, Region
from kvmharness.vendors.vendor import FirstEntry
from kvmharness.x86.cpuid import Feature
from kvmharness.x86.paging import Pte
from kvmharness.x86.registers import LONG_MODE_EFER, Efer
from kvmharness.x86.segments import CODE64, DATA
from kvmharness.x86.svm import INVALID, SvmExit, TlbControl, Vmcb, segment_bytes, vmcb
from kvmharness.x86.vmcs12 import DescriptorTables, GuestState

_WORD = struct.Struct("<Q")
_FLUSH = {
    "": TlbControl.NOTHING,
    "all": TlbControl.FLUSH_ALL,
    "one": TlbControl.FLUSH_ASID,
    "keepglobal": TlbControl.FLUSH_ASID_NON_GLOBAL,
}
_TLB_CONTROL_SHIFT = 32  # it is behind the ASID


class _SvmLitmus:
    """See :class:`kvmharness.vendors.litmus.LitmusVendor`."""

    l1_program = "litmus_svm"
    l2_program = "litmus_l2_svm"
    asids = True
    efer = int(Efer.SVME)
    asks: Mapping[str, Ask] = MappingProxyType(
        {
            **dict.fromkeys(("tag", "large", "invlpga", "flush", "invpcid-l2", "cr3-kept")),
            "nested": Feature.NPT,
            "flush-asid": Feature.FLUSH_BY_ASID,
        }
    )

    def ideal(self, wishes: Collection[str]) -> Mapping[int, int]:
        """No MSR tells."""
        return {}

    def pages(self, entry: FirstEntry, *, cr4: int, l2_idt: int, nested_roots: tuple[int, ...]) -> dict[int, bytes]:
        """The VMCB."""
        ours = entry.tables
        tables = DescriptorTables(gdt_base=ours.gdt_base, idt_base=l2_idt, tss_base=ours.tss_base)
        guest = GuestState(
            entry.l2_entry,
            rsp=entry.stack_top,
            cr3=entry.guest_cr3,
            tables=tables,
            cr4=cr4,
            efer=int(LONG_MODE_EFER | Efer.SVME),
        )
        page = vmcb(guest, n_cr3=entry.nested or None, asid=ASID)
        reset = segment_bytes(CODE64)[:8] + segment_bytes(DATA)[:8]
        return {Region.VMCB: page, Region.L2_RESET: reset}

    def nested_word(self, gpa: int, rights: str, *, large: bool) -> int:
        """A and D clear; for the walk every access of L2 is one of user mode, and what is there can be read."""
        if not rights:
            return 0
        bits = Pte.P | Pte.US | (Pte.RW if "w" in rights else Pte(0)) | (Pte(0) if "x" in rights else Pte.NX)
        return gpa | int(bits) | (int(Pte.PS) if large else 0)

    def entry_rows(self, entry: Entry, before: Entry | None, capabilities: Mapping[int, int]) -> tuple[Words, ...]:
        """L1's own CR3 is what it is when it enters; the rest is written to the VMCB."""
        flush = _FLUSH[entry.flush] if entry.tag else TlbControl.FLUSH_ALL
        written = {
            Vmcb.CR3: entry.guest_cr3,
            Vmcb.NP_ENABLE: int(bool(entry.nested)),
            Vmcb.N_CR3: entry.nested,
            Vmcb.ASID: (entry.tag or ASID) | flush << _TLB_CONTROL_SHIFT,
        }
        moved = (("load_cr3", entry.host_cr3, 0, 0),) if entry.moves else ()
        return moved + tuple(("write", int(Region.VMCB) + field, value, 0) for field, value in written.items())

    def nested_fault(self, reason: int, detail: int, address: int) -> tuple[int, str] | None:
        """Source: APM vol. 2, "Nested Page Faults": EXITINFO1 is an error code, EXITINFO2 the gpa."""
        if reason != SvmExit.NPF:
            return None
        return address, "x" if detail & 16 else "w" if detail & 2 else "r"

    def entry_refused(self, reason: int) -> str:
        """Source: APM vol. 2, "Canonicalization and Consistency Checks"."""
        return "exit invalid" if reason == INVALID else ""

    def accessed(self, word: int) -> str:
        """See the protocol."""
        return ("A" if word & Pte.A else "") + ("D" if word & Pte.D else "")


SVM_LITMUS = _SvmLitmus()
