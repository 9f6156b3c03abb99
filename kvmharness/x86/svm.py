"""The VMCB that L1 enters one 64-bit L2 with, as bytes, and what SVM reports when L2 leaves.

L2 is flat 64-bit code at CPL 0, with L1's GDT and IDT; VMRUN leaves TR, LDTR, FS and GS alone, so those are L1's own.
Nothing exits that need not: VMMCALL, VMRUN (which must), a shutdown, and the exceptions asked for. L2 must keep IF = 0,
because L1's interrupts would go through the IDT that both share.

Source: APM vol. 2, appendix "Layout of VMCB" and appendix "SVM Intercept Exit Codes"; "VMRUN Instruction" and
"Canonicalization and Consistency Checks" say what an entry refuses.
"""

import struct
from enum import IntEnum, IntFlag

from kvmharness.x86.msr import PAT_RESET
from kvmharness.x86.registers import (
    Cr4,
    Efer,
    control_register_conflict,
    cr3_reserved_bits,
    is_canonical,
)
from kvmharness.x86.segments import Segment, long_mode_segments
from kvmharness.x86.vmcs12 import DR7_RESET, GuestState

VMCB_BYTES = 0x1000
DR6_RESET = 0xFFFF_0FF0
INVALID = (1 << 64) - 1
"""VMEXIT_INVALID: VMRUN refused the VMCB, L2 never ran."""

_SAVE = 0x400


class Vmcb(IntEnum):
    """Byte offsets in the VMCB: the control area, and from 0x400 on the state save area."""

    INTERCEPT_EXCEPTIONS = 0x008
    INTERCEPT_MISC1 = 0x00C  # class Intercept1
    INTERCEPT_MISC2 = 0x010  # class Intercept2
    IOPM_BASE_PA = 0x040
    MSRPM_BASE_PA = 0x048
    TSC_OFFSET = 0x050
    ASID = 0x058
    TLB_CONTROL = 0x05C  # class TlbControl
    EXITCODE = 0x070  # class SvmExit
    EXITINFO1 = 0x078
    EXITINFO2 = 0x080
    EXITINTINFO = 0x088
    NP_ENABLE = 0x090  # bit 0
    EVENTINJ = 0x0A8
    N_CR3 = 0x0B0
    CLEAN_BITS = 0x0C0  # 0: whatever the processor has cached of this VMCB may have changed
    ES = _SAVE + 0x000
    CS = _SAVE + 0x010
    SS = _SAVE + 0x020
    DS = _SAVE + 0x030
    FS = _SAVE + 0x040
    GS = _SAVE + 0x050
    GDTR = _SAVE + 0x060
    LDTR = _SAVE + 0x070
    IDTR = _SAVE + 0x080
    TR = _SAVE + 0x090
    CPL = _SAVE + 0x0CB
    EFER = _SAVE + 0x0D0
    CR4 = _SAVE + 0x148
    CR3 = _SAVE + 0x150
    CR0 = _SAVE + 0x158
    DR7 = _SAVE + 0x160
    DR6 = _SAVE + 0x168
    RFLAGS = _SAVE + 0x170
    RIP = _SAVE + 0x178
    RSP = _SAVE + 0x1D8
    RAX = _SAVE + 0x1F8
    CR2 = _SAVE + 0x240
    G_PAT = _SAVE + 0x268


class Intercept1(IntFlag):
    """Bits of the word at 0x00C."""

    INTR = 1 << 0
    NMI = 1 << 1
    CPUID = 1 << 18
    HLT = 1 << 24
    INVLPG = 1 << 25
    IOIO_PROT = 1 << 27
    MSR_PROT = 1 << 28
    SHUTDOWN = 1 << 31


class Intercept2(IntFlag):
    """Bits of the word at 0x010."""

    VMRUN = 1 << 0
    VMMCALL = 1 << 1
    VMLOAD = 1 << 2
    VMSAVE = 1 << 3
    STGI = 1 << 4
    CLGI = 1 << 5


class TlbControl(IntEnum):
    """What VMRUN does with translations. Source: APM vol. 2, "TLB Control"."""

    NOTHING = 0
    FLUSH_ALL = 1  # of every ASID; the only flush that all processors with SVM have
    FLUSH_ASID = 3
    FLUSH_ASID_NON_GLOBAL = 7


class SvmExit(IntEnum):
    """Exit codes; the names are those of the kernel's SVM_EXIT_ defines, and an exception's is its mnemonic."""

    READ_CR0 = 0x000
    READ_CR3 = 0x003
    READ_CR4 = 0x004
    READ_CR8 = 0x008
    WRITE_CR0 = 0x010
    WRITE_CR3 = 0x013
    WRITE_CR4 = 0x014
    WRITE_CR8 = 0x018
    EXCEPTION_DB = 0x041
    EXCEPTION_UD = 0x046
    EXCEPTION_DF = 0x048
    EXCEPTION_GP = 0x04D
    EXCEPTION_PF = 0x04E
    INTR = 0x060
    NMI = 0x061
    SMI = 0x062
    INIT = 0x063
    VINTR = 0x064
    CR0_SEL_WRITE = 0x065
    RDTSC = 0x06E
    RDPMC = 0x06F
    CPUID = 0x072
    IRET = 0x074
    INVD = 0x076
    PAUSE = 0x077
    HLT = 0x078
    INVLPG = 0x079
    INVLPGA = 0x07A
    IOIO = 0x07B
    MSR = 0x07C
    TASK_SWITCH = 0x07D
    SHUTDOWN = 0x07F
    VMRUN = 0x080
    VMMCALL = 0x081
    VMLOAD = 0x082
    VMSAVE = 0x083
    STGI = 0x084
    CLGI = 0x085
    SKINIT = 0x086
    RDTSCP = 0x087
    WBINVD = 0x089
    MONITOR = 0x08A
    MWAIT = 0x08B
    XSETBV = 0x08D
    INVPCID = 0x0A2
    NPF = 0x400


_EXCEPTIONS = range(0x40, 0x60)

# Everything that is not 8 bytes wide.
_WORDS = frozenset({Vmcb.INTERCEPT_EXCEPTIONS, Vmcb.INTERCEPT_MISC1, Vmcb.INTERCEPT_MISC2, Vmcb.ASID, Vmcb.CLEAN_BITS})
_BYTES = frozenset({Vmcb.TLB_CONTROL, Vmcb.CPL})
_SEGMENT = struct.Struct("<HHIQ")


def vmcb(guest: GuestState, *, n_cr3: int | None, asid: int, flush: bool = False, exceptions: int = 0) -> bytes:
    """The complete VMCB, one page.

    Args:
        guest: L2's start; `efer` must contain SVME.
        n_cr3: physical address of the nested page tables, or None when L1 gives L2 none.
        asid: tags L2's translations, 1 or more; 0 is L1's own.
        flush: every entry flushes the TLB.
        exceptions: bit v: exception v of L2 is an exit.

    Raises:
        ValueError: a state that VMRUN would refuse.
    """
    _check(guest, n_cr3, asid)
    values = {
        Vmcb.INTERCEPT_EXCEPTIONS: exceptions,
        Vmcb.INTERCEPT_MISC1: int(Intercept1.SHUTDOWN),
        Vmcb.INTERCEPT_MISC2: Intercept2.VMRUN | Intercept2.VMMCALL,
        Vmcb.ASID: asid,
        Vmcb.TLB_CONTROL: int(TlbControl.FLUSH_ALL if flush else TlbControl.NOTHING),
        Vmcb.NP_ENABLE: int(n_cr3 is not None),
        Vmcb.N_CR3: n_cr3 or 0,
        Vmcb.CPL: 0,
        Vmcb.EFER: guest.efer,
        Vmcb.CR4: guest.cr4,
        Vmcb.CR3: guest.cr3,
        Vmcb.CR0: guest.cr0,
        Vmcb.DR7: DR7_RESET,
        Vmcb.DR6: DR6_RESET,
        Vmcb.RFLAGS: guest.rflags,
        Vmcb.RIP: guest.rip,
        Vmcb.RSP: guest.rsp,
        Vmcb.G_PAT: PAT_RESET,
    }
    page = bytearray(VMCB_BYTES)
    for field, value in values.items():
        size = 4 if field in _WORDS else 1 if field in _BYTES else 8
        page[field : field + size] = int(value).to_bytes(size, "little")
    for field, register in _segments(guest).items():
        page[field : field + _SEGMENT.size] = register
    return bytes(page)


def segment_bytes(segment: Segment) -> bytes:
    """A segment register as the VMCB has it: its attributes are the descriptor's, without the hole between them."""
    rights = 0 if segment.unusable else segment.access_rights
    attributes = rights & 0xFF | rights >> 4 & 0xF00
    return _SEGMENT.pack(segment.selector, attributes, segment.limit, segment.base)


def describe_svm_exit(code: int, info1: int = 0, info2: int = 0) -> str:
    """An exit in words.

    Args:
        code, info1, info2: EXITCODE, EXITINFO1 and EXITINFO2.
    """
    if code == INVALID:
        return "VMRUN refused the VMCB (VMEXIT_INVALID)"
    if code in _EXCEPTIONS:
        vector = code - _EXCEPTIONS.start
        text = f"#VMEXIT exception {vector} ({code:#x})"
        return f"{text}, error code {info1:#x}, address {info2:#x}" if code == SvmExit.EXCEPTION_PF else text
    text = f"#VMEXIT {SvmExit(code).name if code in set(SvmExit) else 'of an unknown reason'} ({code:#x})"
    if code == SvmExit.NPF:
        return f"{text}: error code {info1:#x}, gpa {info2:#x}"
    return f"{text}, info {info1:#x}" if info1 else text


def _check(guest: GuestState, n_cr3: int | None, asid: int) -> None:
    conflict = control_register_conflict(guest.cr0, guest.cr4, guest.efer)
    if not guest.efer & Efer.LMA:
        conflict = "EFER.LMA must be 1, L2 is 64-bit"
    if not guest.efer & Efer.SVME:
        conflict = "EFER.SVME must be 1 in L2 too"
    if conflict:
        raise ValueError(f"L2's control registers: {conflict}")
    if reserved := cr3_reserved_bits(guest.cr3, physical_bits=52, pcide=bool(guest.cr4 & Cr4.PCIDE), mov=False):
        raise ValueError(f"L2's CR3 {guest.cr3:#x}: bits {reserved:#x} are reserved in a VMCB")
    if n_cr3 is not None and n_cr3 & 0xFFF:
        raise ValueError(f"nested CR3 {n_cr3:#x}: must be page aligned")
    if not 0 < asid < 1 << 32:
        raise ValueError(f"ASID {asid:#x}: must be in 1..0xffffffff, 0 is the host's")
    for address in (guest.rip, guest.tables.gdt_base, guest.tables.idt_base):
        if not is_canonical(address):
            raise ValueError(f"L2's state has the non-canonical address {address:#x}")


def _segments(guest: GuestState) -> dict[Vmcb, bytes]:
    tables = guest.tables
    registers = long_mode_segments(tables.tss_base)
    registers["ldtr"] = registers.pop("ldt")
    found = {Vmcb[name.upper()]: segment_bytes(segment) for name, segment in registers.items()}
    found[Vmcb.GDTR] = _SEGMENT.pack(0, 0, tables.gdt_limit, tables.gdt_base)
    found[Vmcb.IDTR] = _SEGMENT.pack(0, 0, tables.idt_limit, tables.idt_base)
    return found
