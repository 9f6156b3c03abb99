"""Random programs: the same seed gives the same rows, whatever the machine.

They stay close together on purpose: a few tables, two or three probes, an edit soon followed by a flush and a look, so
that rows have something to do with each other.
"""

from collections.abc import Callable, Container, Iterator
from itertools import count
from random import Random

from kvmharness.errors import UsageError
from kvmharness.litmus.model.machine import Model
from kvmharness.litmus.needs import NESTING
from kvmharness.litmus.program import HOLES, Program, Row

ROWS = 300


def programs(seed: int, offers: Container[str], *, svm: bool, first: int = 0) -> Iterator[Program]:
    """One after the other, without end.

    Args:
        seed: of all of them.
        offers: what the host has, see :func:`kvmharness.litmus.needs.offers`.
        svm: the vendor's rules.
        first: number of the one to begin with.
    """
    for number in count(first):
        yield one(f"random-{seed}-{number}", offers, svm=svm)


def one(name: str, offers: Container[str], *, svm: bool) -> Program:
    """The program of a name that :func:`programs` gave."""
    return _Maker(Random(name), offers, svm=svm).program(name)


class _Maker:
    """Makes one program beside a model that does it."""

    def __init__(self, random: Random, offers: Container[str], *, svm: bool) -> None:
        self._random, self._offers = random, offers
        self._model = Model(svm=svm)
        self._rows: list[Row] = []
        self._inside = False
        self._moved = False  # L2 is at a CR3 that it has moved to itself
        self._roots = ["H0", random.choice(["H1", "H2", "H3"])]
        self._guests = random.sample(["G0", "G1", "G2", "G3"], 2) if NESTING in offers else []
        with_nested = "nested" in offers and random.random() < 0.6
        self._nested = random.sample(["E0", "E1", "E2"], 2) if with_nested else []
        self._tags = random.choice(([0], [0, 1], [1, 2])) if "tag" in offers else [0]
        self._probes = random.sample(["p0", "p1", "p2", "p3", "q0"], 2)
        self._pcids = random.random() < 0.4 and "PCID" in offers
        self._second = random.random() < 0.25
        self._frames = [f"d{n}" for n in random.sample(range(40, 60), 4)]

    def program(self, name: str) -> Program:
        while len(self._rows) < ROWS:
            self._some()
        return Program(name, tuple(self._rows[:ROWS]))

    def _some(self) -> None:
        """A few rows of one doer."""
        who = self._who()
        if who == "L2" and not self._inside and not self._try(self._enter()):
            return
        for _ in range(self._random.randint(1, 5)):
            if self._random.random() < 0.02:
                self._try(self._host())
            elif self._random.random() < 0.45:
                self._edit_and_look(who)
            else:
                self._try(self._action(who))

    def _who(self) -> str:
        others = ["L2"] * 5 * bool(self._guests) + ["V1"] * self._second
        return self._random.choice(["L1"] * 3 + others)

    def _try(self, text: str) -> bool:
        """Appends a row, unless nobody could judge it."""
        if not text:
            return False
        row = Row.parse(text)
        try:
            self._model.step(row)
        except UsageError:
            return False
        self._rows.append(row)
        self._moved = (self._moved and row.who in ("L2", "host")) or (row.who == "L2" and row.verb == "cr3")
        self._inside = row.verb == "enter" or (self._inside and row.who in ("L2", "host"))
        return True

    def _edit_and_look(self, who: str) -> None:
        """Something is remapped, flushed most of the time, and looked at."""
        self._try(self._edit(who))
        if self._random.random() < 0.7:
            self._try(self._flush(who))
        self._try(self._access(who))

    # Rows

    def _action(self, who: str) -> str:
        kinds: list[Callable[[str], str]] = [
            self._access,
            self._access,
            self._edit,
            self._flush,
            self._move,
            self._mode,
        ]
        return self._random.choice(kinds)(who)

    def _probe(self) -> str:
        return self._random.choice(self._probes)

    def _own(self, who: str) -> list[str]:
        return self._guests if who == "L2" else self._roots

    def _any_table(self, who: str) -> str:
        """Mostly one of one's own; L1 also edits L2's."""
        others = self._guests if who == "L1" and self._random.random() < 0.5 else []
        return self._random.choice(others or self._own(who))

    def _access(self, who: str) -> str:
        verb = self._random.choice(("read", "read", "read", "write", "fetch", "uread", "uwrite"))
        if self._random.random() < 0.08:
            return f"L1 peek {self._random.choice(self._frames)}" if who == "L1" else ""
        if self._random.random() < 0.08:
            return f"{who} look {self._random.choice(self._own(who))} {self._probe()}"
        return f"{who} {verb} {self._probe()}"

    def _edit(self, who: str) -> str:
        chance = self._random.random()
        if self._nested and who == "L1" and chance < 0.4:
            return self._edit_nested()
        table, probe = self._any_table(who), self._probe()
        if chance < 0.5:
            return f"{who} unmap {table} {probe}"
        if chance < 0.58:
            return f"{who} size {table} {self._random.choice(('big', 'small'))}"
        frame = self._frame()
        flags = [flag for flag in ("ro", "us", "nx", "g", "old") if self._random.random() < 0.15]
        return " ".join([f"{who} map {table} {probe} {frame}", *flags])

    def _frame(self) -> str:
        if self._random.random() < 0.08:
            return f"m{self._random.randrange(HOLES)}"
        return self._random.choice(self._frames)

    def _edit_nested(self) -> str:
        nested = self._random.choice(self._nested)
        if self._random.random() < 0.12 and "large" in self._offers:
            return f"L1 esize {nested} {self._random.choice(('big', 'small'))}"
        gframe = self._random.choice(self._frames)
        if self._random.random() < 0.2:
            return f"L1 eunmap {nested} {gframe}"
        target = f"d{self._random.randrange(64, 128)}" if self._random.random() < 0.9 else "m2"
        return f"L1 emap {nested} {gframe} {target} {self._random.choice(('rwx', 'rwx', 'rw', 'r', 'rx'))}"

    def _flush(self, who: str) -> str:
        choices = [f"{who} invlpg {self._probe()}", f"{who} invlpg {self._probe()}", self._move(who)]
        if "INVPCID" in self._offers and (who != "L2" or "invpcid-l2" in self._offers):
            kind = self._random.choice(("addr", "one", "all", "keepglobal"))
            pcid = self._random.randrange(3) if self._pcids else 0
            choices.append(f"{who} invpcid {kind} pcid={pcid} {self._probe()}")
        if who == "L1" and self._guests:
            choices += self._flushes_of_l1()
        return self._random.choice(choices)

    def _flushes_of_l1(self) -> Iterator[str]:
        tag = self._random.choice(self._tags) or 1
        if "invvpid" in self._offers:
            kind = self._random.choice(("addr", "one", "all"))
            yield f"L1 invvpid {kind} tag={tag} {self._probe()}"
        if "invept" in self._offers and self._nested:
            yield f"L1 invept one {self._random.choice(self._nested)}"
            yield "L1 invept all"
        if "invlpga" in self._offers:
            yield f"L1 invlpga {self._probe()} tag={tag}"

    def _move(self, who: str) -> str:
        table = self._random.choice(self._own(who))
        if not self._pcids:
            return f"{who} cr3 {table}"
        noflush = " noflush" if self._random.random() < 0.5 else ""
        return f"{who} cr3 {table} pcid={self._random.randrange(3)}{noflush}"

    def _mode(self, who: str) -> str:
        if self._random.random() < 0.1:
            return f"{who} interrupt"
        bits = ["cr0.wp", "cr4.pge", *(f"cr4.{name.lower()}" for name in ("SMEP", "SMAP") if name in self._offers)]
        if self._pcids:
            bits += ["cr4.pcide"] * 3
        return f"{who} set {self._random.choice(bits)}={self._random.choice('01')}"

    def _enter(self) -> str:
        tag = self._random.choice(self._tags)
        words = ["L1 enter", self._random.choice(self._guests)]
        if self._nested and self._random.random() < 0.85:
            words.append(self._random.choice(self._nested))
            if "accessed" in self._offers and self._random.random() < 0.3:
                words.append("ad")
        if self._pcids:
            words.append(f"pcid={self._random.randrange(3)}")
        if tag:
            words.append(f"tag={tag}")
        if self._random.random() < 0.3:
            words.append(f"host={self._random.choice(self._roots)}")
        if "flush" in self._offers and tag and self._random.random() < 0.4:
            kinds = ("all", "one", "keepglobal") if "flush-asid" in self._offers else ("all",)
            words.append(f"flush={self._random.choice(kinds)}")
        return " ".join(words)

    def _host(self) -> str:
        # A slot is never away while rows run: KVM's sync_mmio_spte() keeps what it remembers of a place without memory
        # alive beyond the slot that is put there.
        steps = ["slot move", "slot move", "slot readonly", "slot writable", "sregs", "sregs", "dirty start"]
        if "cr3-kept" in self._offers or not self._moved:
            steps += ["nested", "nested", "migrate"]
        if self._model.memory.dirty is not None:
            steps += ["dirty get"] * 6
        return f"host {self._random.choice(steps)}"
