"""Where a litmus test takes place: tables, pages and tags, the same for all, and the words that rows write.

Each root maps the probes p0 to p3 by one page table, q0 by another one or by a 2 MB page, and everything below
MEMORY_BYTES to itself; each nested table maps L2's pages d0 to d63 to pages of its own.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from kvmharness.guest.layout import PAGE_BYTES, PROBE_GVA, USER_GVA, Place
from kvmharness.litmus.program import FRAMES, HOLES, NESTED, PROBES, ROOTS
from kvmharness.litmus.protocol import TAG_AT, page_word
from kvmharness.vendors.vendor import Range, Vendor
from kvmharness.x86.paging import KERNEL, PAGE_2M, PageTables, Pte
from kvmharness.x86.radix import RadixTables

DATA_GPA = int(Place.L2_PROBE)  # d0; all of it is a memslot of its own, for the host to delete and move
DATA_BYTES = PAGE_2M
MEMORY_BYTES = DATA_GPA + DATA_BYTES
HOLE_GPA = 0x4000_0000  # m0: behind all memslots
PAGES = FRAMES * NESTED

_TABLES = int(Place.TABLES)
_ROOT_BYTES = 0x8000
_NESTED_AT = _TABLES + 2 * ROOTS * _ROOT_BYTES
_NESTED_BYTES = 0x6000
Q_GVA = PROBE_GVA + PAGE_2M


def frame_gpa(frame: str) -> int:
    """Where a page such as d7 or m1 lies in L1's physical space; in L2's likewise."""
    number = int(frame[1:])
    return (HOLE_GPA if frame[0] == "m" else DATA_GPA) + number * PAGE_BYTES


def frame_at(gpa: int) -> str:
    """The inverse; empty where there is none."""
    for letter, base, count in (("d", DATA_GPA, PAGES), ("m", HOLE_GPA, HOLES)):
        number, rest = divmod(gpa - base, PAGE_BYTES)
        if not rest and 0 <= number < count:
            return f"{letter}{number}"
    return ""


def gva_of(probe: str) -> int:
    """Where a probe page lies in every root."""
    return Q_GVA if probe == "q0" else PROBE_GVA + PROBES.index(probe) * PAGE_BYTES


@cache
def first_frame(table: str, probe: str) -> str:
    """What a root maps a probe to at the beginning: a page that no other one has."""
    level = "HG".index(table[0])
    return f"d{(level * ROOTS + int(table[1])) * 8 + PROBES.index(probe)}"


@cache
def first_target(nested: str, gframe: str) -> str:
    """Where a nested table maps a page of L2's at the beginning."""
    return f"d{int(gframe[1:]) + FRAMES * int(nested[1])}"


class Leaf(NamedTuple):
    """An entry that maps a page: its frame, and what it allows.

    Attributes:
        frame: empty where nothing is mapped.
        flags: of ro, us, nx, g; "big" for a 2 MB page from that frame on.
    """

    frame: str
    flags: frozenset[str] = frozenset()


class Target(NamedTuple):
    """A nested entry: its page in L1's space, and the rights among r, w, x; "big" is a 2 MB page from d0 on."""

    frame: str
    rights: str = "rwx"
    big: bool = False


BIG_LEAF = Leaf("d0", frozenset({"big"}))


def leaf_word(leaf: Leaf, *, old: bool = False) -> int:
    """The entry as the processor reads it; *old* has its A and D bits clear."""
    if not leaf.frame:
        return 0
    bits = int(Pte.P) if old else int(Pte.P | Pte.A | Pte.D)
    bits |= 0 if "ro" in leaf.flags else Pte.RW
    for flag, bit in (("us", Pte.US), ("nx", Pte.NX), ("g", Pte.G), ("big", Pte.PS)):
        bits |= bit if flag in leaf.flags else 0
    return frame_gpa(leaf.frame) | bits


class World:
    """The tables of one vendor's tests.

    Args:
        vendor: whose nested tables; None where there is no L2.

    Attributes:
        pages: gpa -> bytes, tables and tagged pages.
    """

    def __init__(self, vendor: Vendor | None) -> None:
        self.vendor = vendor
        self._roots: dict[str, PageTables] = {}
        self._nested: dict[str, tuple[RadixTables, int]] = {}
        self.pages: dict[int, bytes] = {
            DATA_GPA + n * PAGE_BYTES + TAG_AT: page_word(n).to_bytes(8, "little") for n in range(PAGES)
        }
        for number, name in enumerate(roots()):
            self._roots[name] = tables = _root(_TABLES + number * _ROOT_BYTES, name)
            self.pages[tables.base_gpa] = tables.image
        if vendor is not None:
            for number in range(NESTED):
                base = _NESTED_AT + number * _NESTED_BYTES
                self._nested[f"E{number}"] = made = _nested(vendor, base, f"E{number}")
                self.pages[base] = made[0].image

    def root(self, table: str) -> int:
        """The CR3 that selects a root, PCID 0."""
        return self._roots[table].root_gpa

    def nested_root(self, nested: str) -> int:
        """The value that selects a nested table: EPTP or N_CR3."""
        return self._nested[nested][1]

    @property
    def nested_roots(self) -> tuple[int, ...]:
        """Of all nested tables, in order."""
        return tuple(selector for _, selector in self._nested.values())

    def entry_gpa(self, table: str, probe: str) -> int:
        """Where the entry of a probe lies; "Q" is the one that leads to q0's page table, or maps it as a 2 MB page."""
        tables = self._roots[table]
        return tables.entry_gpa(Q_GVA, 2) if probe == "Q" else tables.entry_gpa(gva_of(probe), 1)

    def nested_entry_gpa(self, nested: str, gframe: str) -> int:
        """Likewise of a page in L2's physical space; "D" is the entry above all of them."""
        tables = self._nested[nested][0]
        return tables.entry_gpa(DATA_GPA, 2) if gframe == "D" else tables.entry_gpa(frame_gpa(gframe), 1)

    def table_word(self, table: str) -> int:
        """What the entry above a probe's or page's says as long as it leads to a table."""
        if table[0] == "E":
            tables: RadixTables = self._nested[table][0]
            return tables.word_at(tables.entry_gpa(DATA_GPA, 2))
        tables = self._roots[table]
        return tables.word_at(tables.entry_gpa(Q_GVA, 2))


def roots() -> Iterator[str]:
    """The names of all roots, L1's first."""
    return (f"{level}{number}" for level in "HG" for number in range(ROOTS))


def _root(base: int, name: str) -> PageTables:
    tables = PageTables(base, max_bytes=_ROOT_BYTES)
    tables.map(0, 0, MEMORY_BYTES, page_bytes=PAGE_2M)
    for probe in PROBES:
        tables.map(gva_of(probe), frame_gpa(first_frame(name, probe)))
    program = Place.L1_CODE if name[0] == "H" else Place.L2_CODE
    tables.map(USER_GVA, program, flags=(KERNEL & ~Pte.RW) | Pte.US)
    return tables


def _nested(vendor: Vendor, base: int, name: str) -> tuple[RadixTables, int]:
    own = [Range(frame_gpa(f"d{n}"), frame_gpa(first_target(name, f"d{n}")), PAGE_BYTES) for n in range(FRAMES)]
    return vendor.nested_space(base, [Range(0, 0, PAGE_2M), *own])


_worlds: dict[str, World] = {}


def world(vendor: Vendor | None) -> World:
    """The one world of a vendor."""
    name = vendor.names.name if vendor else ""
    if name not in _worlds:
        _worlds[name] = World(vendor)
    return _worlds[name]
