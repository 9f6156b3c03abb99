"""Plans a litmus test: what can be computed, and which answers are allowed, before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

from kvmharness.errors import UsageError
from kvmharness.guest import loader
from kvmharness.guest.blueprint import Blueprint
from kvmharness.guest.image import Image
from kvmharness.guest.layout import Act, Place
from kvmharness.guest.shipped import image
from kvmharness.kvm.capabilities import Capabilities
from kvmharness.litmus.encode import Encoder
from kvmharness.litmus.model.answers import Answers
from kvmharness.litmus.model.machine import Model
from kvmharness.litmus.program import Program, Row
from kvmharness.litmus.protocol import END, HOST, SWITCH
from kvmharness.litmus.world import world
from kvmharness.vendors.known import by_asid, litmus_of
from kvmharness.vendors.litmus import Words
from kvmharness.vendors.vendor import FirstEntry, Vendor

_ROW = Struct("<4Q32x")
_ANSWER = Struct("<32x4Q")
# Where the rows of each lie, and how many there is room for.
STREAMS = {"L1": (int(Place.ROWS), 5000), "L2": (0x15_0000, 4500), "V1": (0x1C_0000, 4000)}
ALONE = "litmus_l1"


@dataclass(frozen=True, slots=True)
class Planned:
    """A test, ready to be run.

    Attributes:
        program: what it does.
        rows: who -> the rows of the guest program, as bytes.
        host: what the host does, in its order.
        answers: of each row: the gpa of the guest's row that has its answer, None for the host's; and the answers that
            are allowed.
        kind: of blueprint: "alone" or "nested".
        begin: gpa of the code that begins with a row.
    """

    program: Program
    rows: Mapping[str, bytes]
    host: tuple[tuple[str, str], ...]
    answers: tuple[tuple[int | None, Answers], ...]
    kind: str
    begin: int

    def answers_in(self, rows: Sequence[bytes]) -> dict[int, tuple[int, ...]]:
        """gpa of a row -> its VALUE, STATUS, DETAIL and ADDRESS.

        Args:
            rows: of each who there is, as they are after the run.

        Raises:
            ValueError: they are not as long as they were.
        """
        found: dict[int, tuple[int, ...]] = {}
        for (who, before), after in zip(self.rows.items(), rows, strict=True):
            if len(after) != len(before):
                raise ValueError(f"{len(after)} bytes of rows of {who}: {len(before)} were sent")
            first = STREAMS[who][0]
            found |= {first + number * Act.BYTES: words for number, words in enumerate(_ANSWER.iter_unpack(after))}
        return found

    def to_json(self) -> dict[str, Any]:
        """What :func:`kvmharness.litmus.execute.execute` takes."""
        return {
            "kind": self.kind,
            "rows": [[STREAMS[who][0], data.hex()] for who, data in self.rows.items()],
            "second": [STREAMS["V1"][0], self.begin] if "V1" in self.rows else [],
            "host": [list(step) for step in self.host],
        }


@dataclass(slots=True)
class _Stream:
    """The rows of one of L1, L2 and V1, as they are laid out."""

    who: str
    symbols: Mapping[str, int]
    rows: list[bytes] = field(default_factory=list)

    @property
    def next_gpa(self) -> int:
        return STREAMS[self.who][0] + len(self.rows) * Act.BYTES

    def add(self, words: Words) -> int:
        """Appends a row; gives its gpa."""
        label, a, b, c = words
        if len(self.rows) >= STREAMS[self.who][1]:
            raise UsageError(f"more rows than there is room for {self.who}", "Make the test shorter.")
        gpa = self.next_gpa
        self.rows.append(_ROW.pack(self.symbols[label], a, b, c))
        return gpa


def blueprint(kind: str, vendor: Vendor | None, offered: Capabilities) -> Blueprint:
    """The guest that all tests of one kind start as; the rows are not in it.

    Raises:
        HostRequirementError: the vCPU's virtualization lacks what it takes.
    """
    there = world(vendor)
    pages = dict(there.pages)
    cr3 = there.root("H0")
    if kind == "alone":
        return loader.long_mode(image(ALONE), offered, pages, cr3=cr3)
    assert vendor is not None
    l1, l2 = image(litmus_of(vendor).l1_program), image(litmus_of(vendor).l2_program)
    entry = FirstEntry(
        l1=l1.symbols,
        l2_entry=l2.symbols["entry"],
        stack_top=int(Place.STACK_TOP),
        tables=loader.TABLES,
        host_cr3=cr3,
        guest_cr3=there.root("G0"),
        nested=0,
        pcid=False,
        tagged=False,
        capabilities=offered.msrs,
    )
    cr4 = vendor.cr4(pcid=False)
    pages |= litmus_of(vendor).pages(entry, cr4=cr4, l2_idt=int(Place.L2_DESCRIPTORS), nested_roots=there.nested_roots)
    pages |= {l2.origin: l2.code, int(Place.L2_DESCRIPTORS): loader.exceptions(l2)}
    return loader.long_mode(l1, offered, pages, cr3=cr3, cr4=cr4, msrs=vendor.msrs)


def plan(program: Program, vendor: Vendor | None, offered: Capabilities) -> Planned:
    """Plans a test.

    Args:
        program: what it does.
        vendor: whose virtualization the host offers; None for none, which only does for tests of L1 alone.
        offered: by the host's KVM.

    Raises:
        UsageError: it is too long, or does what cannot be judged, or what this vendor does not have.
    """
    nested = program.nested
    if nested and vendor is None:
        raise UsageError(f"{program.name} enters L2, and this host offers no nesting", "Use --host vmx or svm.")
    return _Planner(program, vendor if nested else None, offered, svm=by_asid(vendor)).planned()


class _Planner:
    """One test on its way to being planned."""

    def __init__(self, program: Program, vendor: Vendor | None, offered: Capabilities, *, svm: bool) -> None:
        self._program, self._kind = program, "nested" if vendor else "alone"
        self._model = Model(svm=svm)
        programs = _programs(vendor)
        self._streams = {who: _Stream(who, programs[who].symbols) for who in STREAMS}
        symbols = {who: each.symbols for who, each in programs.items()}
        self._encoder = Encoder(vendor, world(vendor), offered.msrs, symbols)
        self._host: list[tuple[str, str]] = []
        self._answers: list[tuple[int | None, Answers]] = []
        self._on = "L1"  # the vCPU that runs: L1's, or V1's
        self._inside = False  # L2 has rows to do before L1 goes on

    def planned(self) -> Planned:
        """The whole of it."""
        for number, row in enumerate(self._program.rows, start=1):
            self._switch(row)
            allowed = self._allowed(row, number)
            if row.who == "host":
                self._of_host(row)
                self._answers.append((None, allowed))
            else:
                self._answers.append((self._of_guest(row, number), allowed))
        self._leave()
        self._streams[self._on].add(("ring", END, 0, 0))
        rows = {who: b"".join(stream.rows) for who, stream in self._streams.items() if stream.rows}
        return Planned(
            self._program,
            rows,
            tuple(self._host),
            tuple(self._answers),
            self._kind,
            self._streams["V1"].symbols["begin"],
        )

    def _allowed(self, row: Row, number: int) -> Answers:
        try:
            return self._model.step(row)
        except UsageError as error:
            raise UsageError(f"{self._program.name}, row {number}, {row.text!r}: {error}", error.hint) from None

    def _switch(self, row: Row) -> None:
        """Whoever runs gives way to whoever is next."""
        if row.who in ("L1", "V1"):
            self._leave()
            if row.who != self._on:
                self._streams[self._on].add(("ring", SWITCH, 0, 0))
                self._on = row.who

    def _leave(self) -> None:
        if self._inside:
            self._streams["L2"].add(("leave", 0, 0, 0))
            self._inside = False

    def _of_host(self, row: Row) -> None:
        self._streams["L2" if self._inside else self._on].add(("ring", HOST, 0, 0))
        self._host.append((row.verb, row.get("what")))

    def _of_guest(self, row: Row, number: int) -> int:
        stream = self._streams[row.who]
        words = self._encoder.words(row, number, self._model)
        if missing := next((word[0] for word in words if word[0] not in stream.symbols), ""):
            raise UsageError(f"{self._program.name}: {row.text!r} is an instruction that this vendor lacks ({missing})")
        if row.verb == "enter":
            words[-1] = ("enter", self._streams["L2"].next_gpa, 0, 0)
            self._inside = True
        return [stream.add(each) for each in words][-1]


def _programs(vendor: Vendor | None) -> dict[str, Image]:
    if vendor is None:
        return dict.fromkeys(STREAMS, image(ALONE))
    l1 = image(litmus_of(vendor).l1_program)
    return {"L1": l1, "L2": image(litmus_of(vendor).l2_program), "V1": l1}
