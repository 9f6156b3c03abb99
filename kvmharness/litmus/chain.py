"""Many tests as one program: a VM for each would cost more than all their rows.

Between two tests rows put back what the first one changed, and flush everything, so that a test is as strict as alone;
the model goes on across all of them. A test that fails in the chain is run by itself as well.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kvmharness.litmus.judge import Outcome
from kvmharness.litmus.model.access import Mode
from kvmharness.litmus.model.machine import Model
from kvmharness.litmus.program import Program, Row
from kvmharness.litmus.world import first_frame, first_target

_BITS = {"wp": ("cr0.wp", True), "pge": ("cr4.pge", False), "smep": ("cr4.smep", False), "smap": ("cr4.smap", False)}
_BITS |= {"pcide": ("cr4.pcide", False), "nxe": ("efer.nxe", True)}


@dataclass(frozen=True, slots=True)
class Chain:
    """Tests one behind the other.

    Attributes:
        program: all of it.
        parts: of each test: its first row, and the one behind its last.
    """

    program: Program
    parts: tuple[tuple[int, int], ...]


def chain(name: str, programs: Sequence[Program], offers: Container[str], *, svm: bool) -> Chain:
    """Puts tests into one program.

    Args:
        name: of the whole.
        programs: the tests.
        offers: what the host has.
        svm: the vendor's rules.
    """
    return _Chainer(offers, svm=svm).chain(name, programs)


class _Chainer:
    """Lays tests out beside a model that does them."""

    def __init__(self, offers: Container[str], *, svm: bool) -> None:
        self._offers = offers
        self._model = Model(svm=svm)
        self._rows: list[Row] = []

    def chain(self, name: str, programs: Sequence[Program]) -> Chain:
        parts = []
        for program in programs:
            start = len(self._rows)
            for row in program.rows:
                self._do(row)
            parts.append((start, len(self._rows)))
            self._count()
            self._put_back(program.nested)
        return Chain(Program(name, tuple(self._rows)), tuple(parts))

    def _do(self, row: Row) -> None:
        self._model.step(row)
        self._rows.append(row)

    def _say(self, text: str) -> None:
        self._do(Row.parse(text))

    def _count(self) -> None:
        """Where KVM's statistics are read, so that they are known for each test."""
        self._say("host count")

    def _put_back(self, nested: bool) -> None:
        memory = self._model.memory
        if memory.dirty is not None:
            self._say("host dirty stop")
        if memory.letter != "d":
            self._say("host slot move")
        if memory.slot != "there":
            self._say("host slot add" if memory.slot == "deleted" else "host slot writable")
        if self._model.cpus["V1"].modes["L1"] != Mode("H0"):
            self._mode("V1", self._model.cpus["V1"].modes["L1"], "H0")
        self._mode("L1", self._model.cpus["L1"].modes["L1"], "H0")
        for text in [*self._tables()]:
            self._say(text)
        if nested:
            self._flush()
        self._say("L1 cr3 H0")

    def _mode(self, who: str, mode: Mode, root: str) -> None:
        """A level's control registers, and with them its global translations."""
        self._say(f"{who} cr3 {root}")
        for name, (bit, usual) in _BITS.items():
            if getattr(mode, name) != usual:
                self._say(f"{who} set {bit}={int(usual)}")
        self._say(f"{who} set cr4.pge=1")
        self._say(f"{who} set cr4.pge=0")

    def _tables(self) -> Iterator[str]:
        memory = self._model.memory
        for table in sorted(memory.large):
            yield f"L1 {'esize' if table[0] == 'E' else 'size'} {table} small"
        for table, place in sorted(memory.changed):
            if table[0] == "E":
                yield f"L1 emap {table} {place} {first_target(table, place)}"
            else:
                yield f"L1 map {table} {place} {first_frame(table, place)}"

    def _flush(self) -> None:
        """L2's modes as they were, and nothing of it left under any tag."""
        flush = " tag=1 flush=all" if self._model.svm else ""
        self._say(f"L1 enter G0{flush}")
        mode = self._model.cpus["L1"].modes["L2"]
        self._mode("L2", mode, "G0")
        if "invvpid" in self._offers:
            self._say("L1 invvpid all")
        if "invept" in self._offers:
            self._say("L1 invept all")


def parted(outcome: Outcome, made: Chain, names: Sequence[str]) -> Iterator[Outcome]:
    """What came of each test of a chain; of one that broke off, the error of all of it for each."""
    before: Mapping[str, int] = {}
    for number, (name, (start, end)) in enumerate(zip(names, made.parts, strict=True)):
        now = outcome.counts[number] if number < len(outcome.counts) else {}
        # A new VM counts from 0 again: nothing is known of the test that made it.
        gained = {key: value - before.get(key, 0) for key, value in now.items()}
        counts = gained if all(value >= 0 for value in gained.values()) else {}
        yield Outcome(name, outcome.answers[start:end], outcome.error, counts)
        before = now
