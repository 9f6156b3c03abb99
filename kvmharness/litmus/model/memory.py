"""What lies in memory: entries of page tables and nested tables, what was written to pages, and the memslot's state."""

from collections.abc import Iterable

from kvmharness.litmus.program import FRAMES, PROBES
from kvmharness.litmus.world import BIG_LEAF, Leaf, Target, first_frame, first_target

Entry = Leaf | Target
UNDER_2M = "q0"  # the only probe whose page may be a piece of a 2 MB page
ALL_RIGHTS = "rwx"


class Bits:
    """A and D of one entry: whether each may be set by now, and whether it must be."""

    def __init__(self, *, accessed: bool = False) -> None:
        self.may_a = self.must_a = self.may_d = self.must_d = accessed

    def allowed(self) -> frozenset[str]:
        """As rows that look at them answer."""
        a = ["A"] if self.must_a else ["A", ""] if self.may_a else [""]
        d = ["D"] if self.must_d else ["D", ""] if self.may_d else [""]
        return frozenset(first + second or "-" for first in a for second in d)


class Memory:
    """All of it, at one moment."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}
        self._big: set[str] = set()
        self.bits: dict[tuple[str, str], Bits] = {}
        self.written: dict[str, frozenset[str]] = {}
        self.slot = "there"  # or "deleted", "readonly"
        self.letter = "d"  # of the memory behind the slot
        self.dirty: set[str] | None = None  # pages that must be in the log
        self.manual = False  # reading it does not clear it
        self.was_read = False  # the log, at least once

    def entry(self, table: str, place: str) -> Entry:
        """What a table says about a probe, or about a page of L2's, once the entries above have led there."""
        return self._entries.get((table, place)) or _first(table, place)

    def write(self, table: str, place: str, entry: Entry, *, accessed: bool) -> None:
        """An entry is written, with its A and D bits set or clear."""
        self._entries[table, place] = entry
        self.bits[table, place] = Bits(accessed=accessed)

    def bits_of(self, table: str, place: str) -> Bits:
        """The A and D bits of an entry."""
        return self.bits.setdefault((table, place), Bits(accessed=table[0] != "E"))

    @property
    def large(self) -> frozenset[str]:
        """Tables in which a 2 MB page is mapped."""
        return frozenset(self._big)

    @property
    def changed(self) -> list[tuple[str, str]]:
        """Entries that are not what they were at the beginning."""
        return [where for where, entry in self._entries.items() if entry != _first(*where)]

    def is_big(self, table: str) -> bool:
        """Whether the entry above q0, or above L2's pages, maps a 2 MB page."""
        return table in self._big

    def resize(self, table: str, *, big: bool) -> None:
        """That entry is written."""
        (self._big.add if big else self._big.discard)(table)

    def effective(self, table: str, place: str) -> Entry:
        """What a walk from the top finds."""
        if self.is_big(table) and below_big(table, place):
            return big(table, place)
        return self.entry(table, place)

    def content(self, frame: str) -> frozenset[str]:
        """What may have been written to a page last; "-" is nothing."""
        return self.written.get(self.letter + frame[1:], frozenset({"-"}))

    def land(self, frames: Iterable[str], value: str) -> None:
        """A write has gone to one of these pages."""
        there = sorted(frames)
        for frame in there:
            name = self.letter + frame[1:]
            self.written[name] = frozenset({value}) | (frozenset() if len(there) == 1 else self.content(frame))
            if self.dirty is not None and len(there) == 1:
                self.dirty.add(frame)


def _first(table: str, place: str) -> Entry:
    """What an entry is at the beginning."""
    return Target(first_target(table, place)) if table[0] == "E" else Leaf(first_frame(table, place))


def below_big(table: str, place: str) -> bool:
    """Whether a large page would map this place."""
    return table[0] == "E" or place == UNDER_2M


def big(table: str, place: str) -> Entry:
    """What a 2 MB page maps a place to: L2's pages to themselves, q0 to the first one."""
    return Target(place, ALL_RIGHTS, big=True) if table[0] == "E" else BIG_LEAF


def places(table: str) -> tuple[str, ...]:
    """What a table can say something about, and that a test may look at."""
    return tuple(f"d{n}" for n in range(FRAMES)) if table[0] == "E" else PROBES
