"""The turns of a run: which variant runs which cells, loaded once with which parameters, in which order."""

from collections.abc import Sequence
from dataclasses import dataclass

from kvmharness.cells.cell import Cell
from kvmharness.cells.params import Params, tdp_off

CELLS_MAX, PIECE = 200, 55
"""Cells of a run's turn; one of more is cut into pieces, so that many hosts can help. To start one is a sixth of it."""


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
    """The turns of an interleaving; cells that want other module parameters make turns of their own.

    Those without parameters come first, and those without EPT or NPT last: the record's facts of the host are those of
    the first turn, and cells are labelled by them.

    Args:
        order: variant names in the order they run in, for example none, both, both, none.
        cells: for each of them.
    """
    groups: dict[Params, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.params, []).append(cell)
    by_params = sorted(groups.items(), key=lambda each: (tdp_off(dict(each[0])), bool(each[0])))
    # What one variant leaves behind shows only where it is loaded behind another one, in the same boot.
    most = CELLS_MAX if len(set(order)) == 1 else len(cells)
    return tuple(
        Turn(number, name, params, piece, alone=len(group) > most)
        for number, name in enumerate(order)
        for params, group in by_params
        for piece in _pieces(group, most)
    )


def _pieces(cells: Sequence[Cell], most: int) -> list[tuple[Cell, ...]]:
    size = len(cells) if len(cells) <= most else PIECE
    return [tuple(cells[first : first + size]) for first in range(0, len(cells), size)]
