"""What a test's rows answered, in words, beside what is allowed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kvmharness.guest.layout import Status
from kvmharness.litmus.encode import number_of
from kvmharness.litmus.model.answers import LOGGED, NOT_RUN
from kvmharness.litmus.plan import Planned
from kvmharness.litmus.program import FRAMES, NESTED, PROBES, Program, Row
from kvmharness.litmus.protocol import MMIO, MOVED, TAG_SHIFT, VECTOR
from kvmharness.litmus.world import first_frame, first_target, frame_at, gva_of, roots
from kvmharness.vendors.litmus import LitmusVendor
from kvmharness.x86.exceptions import WITH_ERROR_CODE, Vector
from kvmharness.x86.paging import Pte

_FAILED = "did not run"
PREFETCHED = 8  # entries at once: Linux, PTE_PREFETCH_NUM


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one row.

    Attributes:
        row: what was done.
        expected: the answers that are allowed, in order; none for a row that was not to be reached.
        seen: the one that it gave.
        known: pages that the test's tables lead to: no other one belongs in a dirty log.
    """

    row: Row
    expected: tuple[str, ...]
    seen: str
    known: frozenset[str] = frozenset()

    @property
    def right(self) -> bool:
        """Whether it is allowed."""
        if self.expected and self.expected[0].startswith(LOGGED):
            must = set(self.expected[0].removeprefix(LOGGED).split()) - {"-"}
            return must <= set(self.seen.split()) - {"-"} <= self.known
        return self.seen in (self.expected or ("",))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one test.

    Attributes:
        name: of the test.
        answers: of its rows; empty when it broke off.
        error: why it broke off.
        stats: KVM's statistics over all of it.
        counts: the same at each of its rows that reads them.
    """

    name: str
    answers: tuple[Answer, ...]
    error: str = ""
    stats: Mapping[str, int] = field(default_factory=dict)
    counts: tuple[Mapping[str, int], ...] = ()

    @property
    def wrong(self) -> tuple[int, ...]:
        """Numbers of the rows that gave what is not allowed, from 0."""
        return tuple(number for number, answer in enumerate(self.answers) if not answer.right)

    @property
    def passed(self) -> bool:
        """Every row gave what is allowed."""
        return not self.error and not self.wrong


def judge(planned: Planned, raw: Mapping[str, Any], vendor: LitmusVendor | None) -> Outcome:
    """Compares what came of a test with what is allowed.

    Args:
        planned: the test.
        raw: what :func:`kvmharness.litmus.execute.execute` emitted for it.
        vendor: whose exits L2 makes.

    Raises:
        ValueError: it is not of that form.
    """
    name = planned.program.name
    if "error" in raw:
        return Outcome(name, (), f"{raw['error']['type']}: {raw['error']['message']}")
    words = planned.answers_in([bytes.fromhex(rows) for rows in raw["rows"]])
    mmio = {int(row): frame_at(int(gpa)) or f"{int(gpa):#x}" for row, gpa in raw["mmio"]}
    host = iter(raw["host"])
    answers, known = [], known_pages(planned.program)
    for row, (gpa, allowed) in zip(planned.program.rows, planned.answers, strict=True):
        seen = str(next(host, _FAILED)) if gpa is None else _seen(row, words[gpa], mmio.get(gpa), vendor)
        answers.append(
            Answer(row, tuple(sorted(allowed)), "" if allowed is NOT_RUN and seen == _FAILED else seen, known)
        )
    return Outcome(name, tuple(answers), stats=raw["stats"], counts=tuple(raw["counts"]))


def known_pages(program: Program) -> frozenset[str]:
    """Pages that some table led to at some time, and their neighbours, which KVM maps along with them."""
    first = {first_frame(root, probe) for root in roots() for probe in PROBES}
    named = {row.get(name) for row in program.rows for name in ("frame", "gframe")} - {""}
    gframes = [frame for frame in first | named if int(frame[1:]) < FRAMES and frame[0] == "d"]
    found = first | named | {first_target(f"E{n}", frame) for n in range(NESTED) for frame in gframes}
    groups = {int(frame[1:]) // PREFETCHED for frame in found if frame[0] == "d"}
    return frozenset(f"d{group * PREFETCHED + n}" for group in groups for n in range(PREFETCHED))


def _seen(row: Row, words: Sequence[int], mmio: str | None, vendor: LitmusVendor | None) -> str:
    value, status, detail, address = words
    if not status:
        return _FAILED
    if status & Status.EXCEPTION:
        return _exception(row, status & 0xFF, detail, address)
    if status == Status.REFUSED:
        return f"refused {value}"
    if status == Status.EXIT:
        return _exit(value, detail, address, vendor)
    if mmio is not None:
        return f"mmio {mmio}"
    return _done(row, value, vendor)


def _exception(row: Row, vector: int, code: int, cr2: int) -> str:
    names: dict[int, str] = {Vector.PF: "#PF", Vector.GP: "#GP"}
    text = names.get(vector, f"exception {vector}")
    if vector == VECTOR:
        return "interrupt"
    if vector in WITH_ERROR_CODE:
        text += f"({code:#x})"
    else:
        text += f" at RIP {code:#x}"
    probe = row.get("probe")
    if vector == Vector.PF and not (probe and gva_of(probe) <= cr2 < gva_of(probe) + 16):
        text += f" at {cr2:#x}"
    return text


def _exit(reason: int, detail: int, address: int, vendor: LitmusVendor | None) -> str:
    if vendor is not None:
        if fault := vendor.nested_fault(reason, detail, address):
            gpa, right = fault
            return f"nested fault {frame_at(gpa & ~0xFFF) or f'{gpa:#x}'} {right}"
        if refused := vendor.entry_refused(reason):
            return refused
    return f"exit {reason:#x} ({detail:#x})"


def _done(row: Row, value: int, vendor: LitmusVendor | None) -> str:
    match row.verb:
        case "read" | "uread":
            return _tag(value >> TAG_SHIFT & 0xFFFF_FFFF)
        case "fetch" | "ufetch":
            return _tag(value & 0xFFFF_FFFF)
        case "look":
            return ("A" if value & Pte.A else "") + ("D" if value & Pte.D else "") or "-"
        case "elook":
            assert vendor is not None
            return vendor.accessed(value) or "-"
        case "peek":
            return f"w{number_of(value)}" if value else "-"
    return "done"


def _tag(tag: int) -> str:
    if tag & MMIO:
        gpa = (tag & MMIO - 1) << 12
        return f"mmio {frame_at(gpa) or f'{gpa:#x}'}"
    return f"{'b' if tag & MOVED else 'd'}{tag & MOVED - 1}"
