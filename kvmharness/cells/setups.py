"""The set-ups of the matrix and the marks that vary a cell, one row each: cells are checked, named, rotated, run and
reported by these rows, and nothing else asks for a set-up's letter.

A new set-up is one more row; only where L1 or L2 must do something new does it need instructions of its own.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, Self

from kvmharness.lean.dataclasses import dataclass, field

MOST = (1 << 12) - 1  # of anything that a cell counts: so many PCIDs there are beside 0

# What stands for a field of a cell where its form is shown to users.
PLACEHOLDERS = {"host_cr3s": "N1", "guest_cr3s": "N2", "eptps": "E", "order": "ORDER"}


class Order(StrEnum):
    """How several EPTPs follow each other."""

    ABAB = "ABAB"
    AABB = "AABB"


@dataclass(frozen=True, slots=True)
class SetupRow:
    """What makes a set-up.

    Attributes:
        shape: the fields that an id shows, and how; the part in brackets is left out where its fields are all 1.
        words: what it is, with {tdp} and {root} for the vendor's names of nested paging and its root.
        rotates: the fields that count the roots which compete for one cache.
        axis: what these are, below a plot.
        needs: names of what the host must offer besides KVM, as in :mod:`kvmharness.hosts`.
        fixed: the numbers that it does not leave open: 0 EPTPs where L1 gives L2 no EPT, 0 GUEST_CR3s without L2.
        without_tdp: its letter and its words on an L0 that uses no EPT or NPT, where it is a set-up of its own.
    """

    shape: str
    words: str
    rotates: tuple[str, ...]
    axis: str
    needs: tuple[str, ...] = ()
    fixed: Mapping[str, int] = field(default_factory=dict)
    without_tdp: tuple[str, str] | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The shape between slashes, without the one that may be left out."""
        return tuple(self.shape.partition("[")[0].split("/"))

    @property
    def optional(self) -> str:
        """The part of the shape that may be left out."""
        return self.shape.partition("[/")[2].rstrip("]")

    @property
    def form(self) -> str:
        """The shape as users read it, for example ``N1xN2``."""
        return self.shape.format(**PLACEHOLDERS)


class Setup(StrEnum):
    """The table of set-ups: a letter and a row each."""

    row: SetupRow

    def __new__(cls, letter: str, row: SetupRow) -> Self:
        member = str.__new__(cls, letter)
        member._value_ = letter
        member.row = row
        return member

    NO_EPT = (
        "a",
        SetupRow(
            shape="{host_cr3s}x{guest_cr3s}",
            words="L2 without nested {tdp}",
            rotates=("host_cr3s", "guest_cr3s"),  # one MMU serves both levels
            axis="n1+n2",
            needs=("nested",),
            fixed={"eptps": 0},
            without_tdp=("e", "L2 without nested {tdp}, L0 without {tdp}"),
        ),
    )
    ONE_EPTP = (
        "b",
        SetupRow(
            shape="{host_cr3s}x{guest_cr3s}",
            words="L2 with nested {tdp}, one {root}",
            rotates=("host_cr3s",),
            axis="n1, HOST_CR3s",
            needs=("nested", "tdp"),
            fixed={"eptps": 1},
        ),
    )
    EPTPS = (
        "c",
        SetupRow(
            shape="{eptps}/{order}[/{host_cr3s}x{guest_cr3s}]",
            words="L2 with nested {tdp}, several {root}s",
            rotates=("eptps",),
            axis="EPTPs",
            needs=("nested", "tdp"),
        ),
    )
    L1_ALONE = (
        "d",
        SetupRow(
            shape="{host_cr3s}",
            words="L1 alone, MOV CR3",
            rotates=("host_cr3s",),
            axis="CR3s",
            fixed={"guest_cr3s": 0, "eptps": 0},
        ),
    )

    @property
    def nested(self) -> bool:
        """Whether there is an L2 at all."""
        return self.row.fixed.get("guest_cr3s") != 0

    def letter(self, *, l0_tdp: bool) -> str:
        """What it is called.

        Args:
            l0_tdp: whether L0 uses EPT or NPT.
        """
        return self.value if l0_tdp or self.row.without_tdp is None else self.row.without_tdp[0]


@dataclass(frozen=True, slots=True)
class Mark:
    """What varies a cell of any set-up that has what the mark is about.

    Attributes:
        name: as an id shows it, a number behind it where the field is one.
        field: the cell's field.
        value: of the field where the mark is there; None: any number but 0.
        about: the field that must not be 0: the mark is about L2's CR3s, or about EPTPs.
        words: what it does.
    """

    name: str
    field: str
    value: bool | None
    about: str
    words: str

    @property
    def form(self) -> str:
        """As users read it, for example ``inveptN``."""
        return self.name if self.value is not None else f"{self.name}N"

    def shown(self, value: int) -> str:
        """The mark of a cell whose field has this value; "" where it has none."""
        if self.value is None:
            return f"{self.name}{value}" if value else ""
        return self.name if value is self.value else ""


MARKS = (
    Mark("pcid", "pcid", True, "host_cr3s", "the CR3s name one table under different PCIDs"),
    Mark("novpid", "vpid", False, "guest_cr3s", "L2 has no VPID (no ASID of its own)"),
    Mark("invept", "invept_every", None, "eptps", "L1 executes INVEPT before every Nth entry"),
    Mark("l2cr3", "l2_moves_cr3", True, "guest_cr3s", "L2 moves to the next of its CR3s itself"),
)


class Letter(NamedTuple):
    """What a letter stands for."""

    setup: Setup
    words: str
    l0_tdp: bool  # whether that is on an L0 that uses EPT or NPT


def by_letter() -> dict[str, Letter]:
    """All letters, in order."""
    found = {setup.value: Letter(setup, setup.row.words, l0_tdp=True) for setup in Setup}
    for setup in Setup:
        if setup.row.without_tdp is not None:
            letter, words = setup.row.without_tdp
            found[letter] = Letter(setup, words, l0_tdp=False)
    return found
