"""The turns of a run: which variant runs which cells, loaded once with which parameters, in which order."""

from collections.abc import Sequence
from dataclasses import dataclass

from kvmharness.cells.cell import Cell
from kvmharness.cells.params import Params, tdp_off

CELLS_MAX, PIECE = 200, 55
"""Cells of a turn; one of more is cut into pieces, so that many hosts can help; starting one is a sixth of its time."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One variant, loaded once with one set of parameters.

    Attributes:
        number: position in the interleaving.
        variant: its name.
        params: module parameters, ``(("kvm.tdp_mmu", "N"),)``.
        cells: what to run on it.
        alone: it is a piece of what was too much for one boot, and has one of its own.
    """

    number: int
    variant: str
    params: Params
    cells: tuple[Cell, ...]
    alone: bool = False


def schedule(order: Sequence[str], cells: Sequence[Cell]) -> tuple[Turn, ...]:
    """The turns of an interleaving; cells that want other module parameters make turns of their own, as do too many.

    Those without parameters come first, and those without EPT or NPT last: the record's facts of the host are those of
    the first turn, and cells are labelled by them.

    Args:
        order: variant names in the order they run in, for example none, both, both, none.
        cells: for each of them.
    """
    groups: dict[Params, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.params, []).append(cell)
    return tuple(
        Turn(number, name, params, tuple(group[first : first + size]), alone=len(group) > size)
        for number, name in enumerate(order)
        for params, group in sorted(groups.items(), key=lambda each: (tdp_off(dict(each[0])), bool(each[0])))
        for size in (CELLS_MAX if len(group) <= CELLS_MAX else PIECE,)
        for first in range(0, len(group), size)
    )
