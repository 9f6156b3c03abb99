"""What a guest starts as, as C: programs, memory, registers."""

from collections.abc import Iterator, Mapping
from typing import Any

from kvmharness.abi.binding import ffi
from kvmharness.guest.blueprint import Blueprint
from kvmharness.guest.image import Image
from kvmharness.guest.layout import PAGE_BYTES, Place
from kvmharness.guest.shipped import image
from kvmharness.litmus.export import rows
from kvmharness.litmus.export.ctext import bytes_of, initializer, noted, number
from kvmharness.litmus.export.memory import Run, runs, words
from kvmharness.litmus.plan import ALONE, Planned
from kvmharness.litmus.program import NESTED
from kvmharness.litmus.world import DATA_GPA, roots, world
from kvmharness.vendors.known import litmus_of
from kvmharness.vendors.vendor import Vendor
from kvmharness.vendors.vmx.l1 import Region
from kvmharness.x86.vmcs import Field

_SEGMENTS = {"code_segment": "cs", "data_segment": "ds", "task_segment": "tr", "no_segment": "ldt"}
_PAIR_BYTES = 16


class Guest:
    """Of a planned test.

    Args:
        planned: the test.
        vendor: whose virtualization it uses, None for none.
        blueprint: what it starts as.

    Attributes:
        programs: of L1, L2 and V1.
    """

    def __init__(self, planned: Planned, vendor: Vendor | None, blueprint: Blueprint) -> None:
        self._planned, self._vendor, self._blueprint = planned, vendor, blueprint
        l1 = image(litmus_of(vendor).l1_program if vendor else ALONE)
        self.programs: dict[str, Image] = {"L1": l1, "V1": l1}
        if vendor is not None:
            self.programs["L2"] = image(litmus_of(vendor).l2_program)

    def texts(self) -> dict[str, str]:
        """What stands in the template for it."""
        return {
            "CODE": "".join(bytes_of(each, f"{who.lower()}_code") for who, each in self._code()),
            "MEMORY": "\n".join(self._memory()),
            "VMCS": "\n".join(self._vmcs()),
            "SEGMENTS": "\n".join(self._segments()),
            "REGS": "\n".join(self._regs()),
            "SREGS": "\n".join(self._sregs()),
            "FILL": "\n".join(self._fill()),
        }

    def _code(self) -> Iterator[tuple[str, Image]]:
        return ((who, each) for who, each in self.programs.items() if who != "V1")

    def _fill(self) -> Iterator[str]:
        for who, each in self._code():
            name = f"{who.lower()}_code"
            yield f"\tmemcpy(guest({each.origin:#x}), {name}, sizeof({name}));"
        if self._vmx:
            yield "\tfill_vmx();"
        yield from rows.fill(self._planned)

    @property
    def _vmx(self) -> bool:
        return Region.VMCS_TABLE in self._blueprint.pages

    def _memory(self) -> Iterator[str]:
        """All but the programs, and what depends on the host's VMX; of page tables those that rows name."""
        titles = self._titles()
        left_out = {each.origin for _, each in self._code()} | (
            {int(Region.VMCS_TABLE), int(Region.VMXON_REGION), int(Region.VMCS_REGION)} if self._vmx else set()
        )
        left_out |= {gpa for gpa, name in titles.items() if name not in self._named()}
        pages = {gpa: data for gpa, data in self._blueprint.pages.items() if gpa not in left_out}

        def title(gpa: int) -> str:
            return max(((base, name) for base, name in titles.items() if base <= gpa), default=(0, ""))[1]

        for name, group in runs(words(pages), title):
            yield f"\t/* {_TITLES.get(name, name)} */"
            yield from (_run(run) for run in group)

    def _titles(self) -> dict[int, str]:
        """Where something begins -> what."""
        there = world(self._vendor)
        found = {int(Place.DESCRIPTORS): "descriptors", DATA_GPA: "pages"}
        found |= {there.root(name): name for name in roots()}
        if self._vendor is not None:
            found |= {there.nested_root(f"E{n}") & -PAGE_BYTES: f"E{n}" for n in range(NESTED)}
            found |= {int(Place.L2_DESCRIPTORS): "descriptors of L2"}
            found |= {min(self._own_pages(), default=0): "vendor"}
        return found

    def _own_pages(self) -> list[int]:
        return [gpa for gpa in self._blueprint.pages if int(Place.STACK_TOP) < gpa < int(Place.L2_DESCRIPTORS)]

    def _named(self) -> set[str]:
        """Titles of what is needed."""
        operands = {row.get(name) for row in self._planned.program.rows for name in ("table", "host", "nested")}
        default = {"E0"} if any(row.verb == "invept" for row in self._planned.program.rows) else set()
        tables = operands | default | {"H0"} | ({"G0"} if self._vendor else set())
        return tables | {"descriptors", "descriptors of L2", "vendor", "pages"}

    def _vmcs(self) -> Iterator[str]:
        if not self._vmx:
            return
        data = self._blueprint.pages[Region.VMCS_TABLE]
        names = {int(field): field.name for field in Field}
        for start in range(0, len(data), _PAIR_BYTES):
            field, value = (int.from_bytes(data[at : at + 8], "little") for at in (start, start + 8))
            yield noted(initializer([f"{field:#x}", number(value)]), names.get(field, "the end"))

    def _segments(self) -> Iterator[str]:
        sregs = _struct("struct kvm_sregs *", self._blueprint.sregs)
        for name, register in _SEGMENTS.items():
            segment = getattr(sregs, register)
            fields = ("base", "limit", "selector", "type", "present", "dpl", "db", "s", "l", "g", "avl", "unusable")
            yield f"static const struct kvm_segment {name} = {{"
            yield from (f"\t.{field} = {number(value)}," for field in fields if (value := getattr(segment, field)))
            yield "};\n"

    def _sregs(self) -> Iterator[str]:
        sregs = _struct("struct kvm_sregs *", self._blueprint.sregs)
        for table in ("gdt", "idt"):
            yield f"\tsregs.{table}.base = {getattr(sregs, table).base:#x};"
            yield f"\tsregs.{table}.limit = {getattr(sregs, table).limit:#x};"
        yield from (f"\tsregs.{name} = {getattr(sregs, name):#x};" for name in ("cr0", "cr3", "cr4", "efer"))

    def _regs(self) -> Iterator[str]:
        regs = _struct("struct kvm_regs *", self._blueprint.regs)
        for name in (*"abcd", "si", "di", "sp", "bp", *range(8, 16), "ip", "flags"):
            register = f"r{name}x" if str(name) in "abcd" else f"r{name}"
            if value := getattr(regs, register):
                yield f"\t\t.{register} = {number(value)},"


_TITLES: Mapping[str, str] = {
    "descriptors": "GDT, TSS and IDT",
    "descriptors of L2": "IDT of L2",
    "vendor": "what L1 enters L2 with",
    "pages": "d0, d1, ...: mov eax, NUMBER; jmp rdx",
    **{name: f"page tables {name}" for name in roots()},
    **{f"E{n}": f"nested page tables E{n}" for n in range(NESTED)},
}


def _run(run: Run) -> str:
    values = (f"{run.gpa:#x}", f"{run.value:#x}", str(run.length), number(run.stride), number(run.step))
    return f"\t{initializer(values)}"


def _struct(kind: str, data: bytes) -> Any:
    struct = ffi.new(kind)
    ffi.memmove(struct, data, len(data))
    return struct
