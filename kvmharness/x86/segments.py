"""Segments and descriptor tables of long-mode guests, for KVM_SET_SREGS, for the VMCS and as bytes in memory.

Every guest here is flat 64-bit at CPL 0 with one GDT: null, code, data, a 64-bit TSS, which takes two slots, and data
and code for CPL 3.
Source: SDM vol. 3A, "Segment Descriptors", "64-Bit Task State Segment", "64-Bit Mode IDT".
"""

import struct

from kvmharness.lean.dataclasses import dataclass, replace

CODE_SELECTOR = 0x08
DATA_SELECTOR = 0x10
TSS_SELECTOR = 0x18
USER_DATA_SELECTOR = 0x2B  # RPL 3
USER_CODE_SELECTOR = 0x33

GDT_BYTES = 7 * 8
TSS_BYTES = 0x68
IDT_GATE_BYTES = 16

VMX_UNUSABLE = 1 << 16
"""Access-rights bit of a segment that was loaded with a null selector. VMX only: no descriptor has it."""

_CODE_EXECUTE_READ_ACCESSED = 0xB
_DATA_READ_WRITE_ACCESSED = 0x3
_TSS64_AVAILABLE = 0x9
_TSS64_BUSY = 0xB
_LDT = 0x2
_INTERRUPT_GATE64 = 0xE


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment register with its hidden part; the names are those of the kernel's `struct kvm_segment`.

    Attributes:
        base: linear address.
        limit: offset of the last byte, in bytes (already scaled by `g`).
        selector, type, present, dpl, db, s, l, g, avl: as in the descriptor.
        unusable: 1 for a null segment.
    """

    base: int
    limit: int
    selector: int
    type: int
    present: int = 1
    dpl: int = 0
    db: int = 0
    s: int = 1
    l: int = 0  # noqa: E741 - the kernel's name
    g: int = 0
    avl: int = 0
    unusable: int = 0

    def kvm_fields(self) -> dict[str, int]:
        """Name to value, ready for `struct kvm_segment`."""
        return {name: getattr(self, name) for name in self.__match_args__}

    def replace(self, **changes: int) -> "Segment":
        """A copy with some fields changed."""
        return replace(self, **changes)

    @property
    def access_rights(self) -> int:
        """The value of the VMCS access-rights field. Source: SDM vol. 3C, "Guest Register State"."""
        if self.unusable:
            return VMX_UNUSABLE
        low = self.type | self.s << 4 | self.dpl << 5 | self.present << 7
        return low | self.avl << 12 | self.l << 13 | self.db << 14 | self.g << 15

    @property
    def descriptor(self) -> bytes:
        """The descriptor that loads this register: 8 bytes, or 16 for a system segment in long mode.

        Raises:
            ValueError: the limit cannot be written with this granularity.
        """
        limit = self.limit
        if self.g:
            if limit & 0xFFF != 0xFFF:
                raise ValueError(f"limit {limit:#x}: with G = 1 the low 12 bits are ones")
            limit >>= 12
        if limit >> 20:
            raise ValueError(f"limit {self.limit:#x}: too large for a descriptor with G = {self.g}")
        attributes = self.access_rights & 0xF0FF | (limit >> 16) << 8
        low = struct.pack(
            "<HHBHB",
            limit & 0xFFFF,
            self.base & 0xFFFF,
            self.base >> 16 & 0xFF,
            attributes,
            self.base >> 24 & 0xFF,
        )
        return low if self.s else low + struct.pack("<II", self.base >> 32, 0)


CODE64 = Segment(0, 0xFFFF_FFFF, CODE_SELECTOR, _CODE_EXECUTE_READ_ACCESSED, l=1, g=1)
DATA = Segment(0, 0xFFFF_FFFF, DATA_SELECTOR, _DATA_READ_WRITE_ACCESSED, db=1, g=1)
USER_CODE64 = Segment(0, 0xFFFF_FFFF, USER_CODE_SELECTOR, _CODE_EXECUTE_READ_ACCESSED, dpl=3, l=1, g=1)
USER_DATA = Segment(0, 0xFFFF_FFFF, USER_DATA_SELECTOR, _DATA_READ_WRITE_ACCESSED, dpl=3, db=1, g=1)
NULL_LDT = Segment(0, 0, 0, _LDT, present=0, s=0, unusable=1)


def tss_segment(base: int, *, busy: bool = True) -> Segment:
    """TR for a 64-bit TSS at a linear address. A loaded TR is busy; the descriptor for LTR is not."""
    return Segment(base, TSS_BYTES - 1, TSS_SELECTOR, _TSS64_BUSY if busy else _TSS64_AVAILABLE, s=0)


def gdt(tss_base: int, *, busy: bool = True) -> bytes:
    """The GDT that matches the selectors above, 56 bytes.

    Args:
        tss_base: linear address of the TSS.
        busy: whether TR is loaded from outside (KVM_SET_SREGS), so that the guest must not LTR again.
    """
    kernel = CODE64.descriptor + DATA.descriptor + tss_segment(tss_base, busy=busy).descriptor
    return bytes(8) + kernel + USER_DATA.descriptor + USER_CODE64.descriptor


def tss(*, rsp0: int = 0, ist: tuple[int, ...] = ()) -> bytes:
    """A 64-bit TSS without I/O bitmap, 104 bytes.

    Args:
        rsp0: stack pointer on entry to CPL 0.
        ist: up to seven interrupt stack pointers, IST1 first.

    Raises:
        ValueError: more than seven interrupt stacks.
    """
    if len(ist) > 7:
        raise ValueError(f"{len(ist)} interrupt stacks: a TSS has seven")
    stacks = ist + (0,) * (7 - len(ist))
    return struct.pack("<IQQQQ7QQHH", 0, rsp0, 0, 0, 0, *stacks, 0, 0, TSS_BYTES)


def idt_gate(handler: int, *, selector: int = CODE_SELECTOR, ist: int = 0, dpl: int = 0) -> bytes:
    """A 64-bit interrupt gate (IF is cleared on entry), 16 bytes.

    Args:
        handler: linear address.
        selector: code segment.
        ist: interrupt stack, 1 to 7, or 0 to stay on the current stack.
        dpl: lowest privilege that may use INT n on it.
    """
    if not 0 <= ist <= 7 or not 0 <= dpl <= 3:
        raise ValueError(f"IST {ist} or DPL {dpl} does not fit in a gate")
    attributes = ist | _INTERRUPT_GATE64 << 8 | dpl << 13 | 1 << 15
    return struct.pack("<HHHHII", handler & 0xFFFF, selector, attributes, handler >> 16 & 0xFFFF, handler >> 32, 0)


def idt(handlers: dict[int, int], *, vectors: int = 32, ist: int = 0) -> bytes:
    """An IDT of interrupt gates; a vector without a handler is not present, so it ends in a triple fault.

    Args:
        handlers: vector to linear address.
        vectors: length of the table.
        ist: interrupt stack of all of them, or 0 to stay on the current stack.
    """
    if any(not 0 <= vector < vectors for vector in handlers):
        raise ValueError(f"a handler's vector is outside of the IDT of {vectors} gates")
    absent = bytes(IDT_GATE_BYTES)
    return b"".join(idt_gate(handlers[v], ist=ist) if v in handlers else absent for v in range(vectors))


def long_mode_segments(tss_base: int) -> dict[str, Segment]:
    """Segment registers of a flat 64-bit guest, under the names in `struct kvm_sregs`."""
    registers = dict.fromkeys(("ds", "es", "fs", "gs", "ss"), DATA)
    return {"cs": CODE64, **registers, "tr": tss_segment(tss_base), "ldt": NULL_LDT}
