"""Control registers: bits, CR3 with its PCID, and the checks that a MOV or a VM entry would make.

Source: SDM vol. 3A, "Control Registers" and "Process-Context Identifiers (PCIDs)".
"""

from enum import IntFlag

from kvmharness.lean.dataclasses import dataclass


class Cr0(IntFlag):
    """CR0. Bits not named here are reserved."""

    PE = 1 << 0
    MP = 1 << 1
    EM = 1 << 2
    TS = 1 << 3
    ET = 1 << 4
    NE = 1 << 5
    WP = 1 << 16
    AM = 1 << 18
    NW = 1 << 29
    CD = 1 << 30
    PG = 1 << 31


class Cr4(IntFlag):
    """CR4. Bits not named here are reserved, or belong to features that the harness never turns on."""

    VME = 1 << 0
    PVI = 1 << 1
    TSD = 1 << 2
    DE = 1 << 3
    PSE = 1 << 4
    PAE = 1 << 5
    MCE = 1 << 6
    PGE = 1 << 7
    PCE = 1 << 8
    OSFXSR = 1 << 9
    OSXMMEXCPT = 1 << 10
    UMIP = 1 << 11
    LA57 = 1 << 12
    VMXE = 1 << 13
    SMXE = 1 << 14
    FSGSBASE = 1 << 16
    PCIDE = 1 << 17
    OSXSAVE = 1 << 18
    SMEP = 1 << 20
    SMAP = 1 << 21
    PKE = 1 << 22


class Efer(IntFlag):
    """IA32_EFER."""

    SCE = 1 << 0
    LME = 1 << 8
    LMA = 1 << 10
    NXE = 1 << 11
    SVME = 1 << 12  # AMD only


class Rflags(IntFlag):
    """RFLAGS, the bits that decide how a guest runs."""

    CF = 1 << 0
    FIXED = 1 << 1  # always 1
    ZF = 1 << 6
    TF = 1 << 8
    IF = 1 << 9
    DF = 1 << 10


LONG_MODE_CR0 = Cr0.PE | Cr0.MP | Cr0.ET | Cr0.NE | Cr0.WP | Cr0.PG
"""CR0 of every long-mode guest here. NE because VMX operation demands it."""

LONG_MODE_CR4 = Cr4.PAE | Cr4.OSFXSR | Cr4.OSXMMEXCPT
"""CR4 of every long-mode guest here, before VMXE and PCIDE."""

LONG_MODE_EFER = Efer.LME | Efer.LMA | Efer.NXE

MAX_PHYSICAL_BITS = 52
PCID_MASK = 0xFFF
CR3_PWT = 1 << 3
CR3_PCD = 1 << 4
CR3_NOFLUSH = 1 << 63


@dataclass(frozen=True, slots=True)
class Cr3:
    """The operand of a MOV to CR3 (or of the GUEST_CR3 and HOST_CR3 fields) in 4-level paging.

    Attributes:
        table_gpa: physical address of the PML4, 4096-byte aligned.
        pcid: process-context identifier, 0 to 4095; other than 0 only with CR4.PCIDE = 1.
        noflush: bit 63 of the MOV operand: keep the TLB entries of this PCID. Never stored in CR3, and
            reserved in the VMCS fields.

    Raises:
        ValueError: a field that does not fit.
    """

    table_gpa: int
    pcid: int = 0
    noflush: bool = False

    def __post_init__(self) -> None:
        if self.table_gpa & 0xFFF or not 0 <= self.table_gpa < 1 << MAX_PHYSICAL_BITS:
            raise ValueError(f"CR3 table {self.table_gpa:#x}: must be page aligned and below 2^{MAX_PHYSICAL_BITS}")
        if not 0 <= self.pcid <= PCID_MASK:
            raise ValueError(f"PCID {self.pcid:#x}: must be in 0..{PCID_MASK:#x}")

    @property
    def value(self) -> int:
        """The 64-bit operand."""
        return self.table_gpa | self.pcid | (CR3_NOFLUSH if self.noflush else 0)

    @classmethod
    def decode(cls, value: int, *, pcide: bool) -> "Cr3":
        """Takes an operand apart.

        Without CR4.PCIDE, bits 3 and 4 are PWT and PCD, which the harness never sets: they raise, as does bit 63.

        Raises:
            ValueError: a bit that is reserved, or has no place in this class, is set.
        """
        low = value & PCID_MASK
        if not pcide and (low or value & CR3_NOFLUSH):
            raise ValueError(f"CR3 {value:#x}: has bits that mean nothing, or PWT or PCD, while CR4.PCIDE is 0")
        table = value & ~CR3_NOFLUSH & ~PCID_MASK
        return cls(table, low, bool(value & CR3_NOFLUSH))


def cr3_reserved_bits(value: int, *, physical_bits: int, pcide: bool, mov: bool = True) -> int:
    """The bits of a CR3 operand that make the processor refuse it, or 0.

    Args:
        value: the operand.
        physical_bits: MAXPHYADDR of the vCPU.
        pcide: CR4.PCIDE.
        mov: True for MOV to CR3, where bit 63 is NOFLUSH under PCIDE; False for a VMCS field, where it is reserved.

    Bits 11:0 are ignored or have a meaning, so they never count. Source: SDM vol. 3A, "Hierarchical Paging
    Structures: an Overview", and vol. 3C, "Checks on Guest Control Registers, Debug Registers, and MSRs".
    """
    reserved = ((1 << 64) - 1) ^ ((1 << physical_bits) - 1)
    if pcide and mov:
        reserved &= ~CR3_NOFLUSH
    return value & reserved


def control_register_conflict(cr0: int, cr4: int, efer: int) -> str:
    """Why the processor would refuse this combination, or an empty string.

    Source: SDM vol. 3A, "Paging-Mode Enabling" and "Control Registers".
    """
    if cr0 & Cr0.PG and not cr0 & Cr0.PE:
        return "CR0.PG needs CR0.PE"
    if cr0 & Cr0.NW and not cr0 & Cr0.CD:
        return "CR0.NW needs CR0.CD"
    long_mode = bool(efer & Efer.LMA)
    if long_mode != bool(efer & Efer.LME and cr0 & Cr0.PG):
        return "EFER.LMA must equal EFER.LME and CR0.PG"
    if long_mode and not cr4 & Cr4.PAE:
        return "long mode needs CR4.PAE"
    if cr4 & Cr4.PCIDE and not long_mode:
        return "CR4.PCIDE needs long mode"
    return ""


def is_canonical(address: int) -> bool:
    """Whether a 64-bit linear address is canonical with 4-level paging (bits 63:47 all equal)."""
    return 0 <= address < 1 << 64 and (address >> 47) in (0, (1 << 17) - 1)
