"""What reports and claims call a cell: its id, under the letter that its set-up has on the host that it ran on."""

from collections.abc import Mapping

from kvmharness.cells.cell import Cell
from kvmharness.cells.language import WILDCARDS
from kvmharness.cells.params import tdp_off
from kvmharness.cells.setups import by_letter
from kvmharness.errors import UsageError
from kvmharness.results.record import CellResult


def cell_of(result: CellResult) -> Cell:
    """The cell of a result as its type.

    Raises:
        UsageError: the record's cell is none, or has fields that this version does not know.
    """
    return Cell.from_json(dict(result.cell))


def letter(cell: Cell, host: Mapping[str, object]) -> str:
    """The set-up's letter: (a) is (e) where L0 uses no EPT or NPT, for want of it or by the cell's own parameters.

    Args:
        cell: which ran.
        host: the record's facts of the host.
    """
    return cell.setup.letter(l0_tdp=host.get("l0_ept") is not False and not tdp_off(dict(cell.params)))


def label(cell: Cell, host: Mapping[str, object]) -> str:
    """The id under that letter, which can be typed back: ``e:3x3/ept=0`` for ``a:3x3/ept=0``."""
    return letter(cell, host) + cell.id[1:]


def check_pattern(pattern: str) -> None:
    """Refuses a pattern of labels that no label can match.

    Raises:
        UsageError: it begins with no set-up's letter, or has no wildcard and is no label.
    """
    if WILDCARDS.isdisjoint(pattern):
        written = label(Cell.parse(pattern), {})
        if pattern != written:
            raise UsageError(f"{pattern!r} is not how that cell is labelled", f"Write {written}.")
    elif pattern[0] not in WILDCARDS and pattern[0] not in by_letter():
        raise UsageError(f"{pattern!r} begins with none of the set-ups {', '.join(by_letter())}")
