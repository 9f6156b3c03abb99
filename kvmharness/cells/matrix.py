"""Which cells there are to run: the default matrix, what a series is validated with, and what a user asks for."""

from fnmatch import fnmatchcase

from kvmharness.cells.cell import Cell, on_vendor, with_params, without_tdp
from kvmharness.cells.fits import check_fits
from kvmharness.cells.language import WILDCARDS
from kvmharness.cells.setups import Order, Setup, by_letter
from kvmharness.errors import UsageError
from kvmharness.vendors.names import NAMES

COUNTS = (1, 2, 3, 4, 5, 8)  # both sides of the cache's size, which is 4: the current root and three previous ones
PAIRS = ((1, 4), (2, 3), (3, 3), (4, 4))


def matrix() -> tuple[Cell, ...]:
    """Every cell of the default matrix, set-up by set-up."""
    shapes = [(n, 1) for n in COUNTS] + list(PAIRS)
    cells = [
        Cell(Setup.NO_EPT, n1, n2, pcid=pcid, vpid=vpid)
        for pcid, vpid in ((False, True), (True, True), (False, False))
        for n1, n2 in shapes
    ]
    cells += [
        Cell(Setup.ONE_EPTP, n1, eptps=1, pcid=pcid, vpid=vpid)
        for pcid, vpid in ((False, True), (True, True), (False, False))
        for n1 in COUNTS
    ]
    cells += [Cell(Setup.ONE_EPTP, n1, eptps=1, invept_every=8) for n1 in (1, 5)]
    cells += [Cell(Setup.EPTPS, eptps=count, order=order) for order in Order for count in COUNTS]
    cells += [Cell(Setup.L1_ALONE, n, guest_cr3s=0, pcid=pcid) for pcid in (False, True) for n in COUNTS]
    return tuple(cells)


def validation_matrix(vendor_module: str = NAMES[0].module) -> tuple[Cell, ...]:
    """The cells that a series is validated with: a choice of the whole matrix, and more module parameters.

    With L0's EPT or NPT off, (a) becomes (e), and (d) exits: these are the negative controls.

    Args:
        vendor_module: of the host; it names the parameter that switches EPT or NPT off.
    """
    pairs = [(n, 1) for n in COUNTS] + list(PAIRS)
    cells = [Cell(Setup.NO_EPT, n1, n2) for n1, n2 in pairs]
    cells += [Cell(Setup.NO_EPT, n, n, pcid=True) for n in (1, 3)]
    cells += [Cell(Setup.NO_EPT, n, n, vpid=False) for n in (1, 3)]
    cells += [Cell(Setup.ONE_EPTP, n1, eptps=1) for n1 in COUNTS]
    cells += [Cell(Setup.ONE_EPTP, n1, eptps=1, invept_every=8) for n1 in (1, 5)]
    cells += [Cell(Setup.ONE_EPTP, 5, eptps=1, pcid=True)]
    cells += [Cell(Setup.EPTPS, eptps=count) for count in (1, 3, 5)]
    cells += [Cell(Setup.EPTPS, eptps=count, order=Order.AABB) for count in COUNTS]
    cells += [Cell(Setup.L1_ALONE, n, guest_cr3s=0) for n in (1, 5)]
    telling = (Cell(Setup.NO_EPT), Cell(Setup.NO_EPT, 3, 3), Cell(Setup.ONE_EPTP, 5, eptps=1))
    no_tdp_mmu = {"kvm.tdp_mmu": "N"}
    cells += [with_params(cell, no_tdp_mmu) for cell in (*telling, Cell(Setup.EPTPS, eptps=3, order=Order.AABB))]
    cells += [without_tdp(Cell(Setup.NO_EPT, n, n)) for n in (1, 3, 4)]
    cells += [without_tdp(Cell(Setup.L1_ALONE, n, guest_cr3s=0)) for n in (1, 4, 5)]
    return tuple(on_vendor(cell, vendor_module) for cell in cells)


def named(text: str) -> Cell:
    """The one cell that a user names, sure to fit into a guest.

    Raises:
        UsageError: it is no cell, or a guest's memory cannot hold it.
    """
    cell = Cell.parse(text)
    check_fits(cell)
    return cell


def select(patterns: tuple[str, ...]) -> tuple[Cell, ...]:
    """The cells that a user asks for, each once; the default matrix without patterns.

    Args:
        patterns: each the id of any cell, a set-up's letter for all its default cells, or a shell-style pattern of ids
            of default cells.

    Raises:
        UsageError: a pattern matches nothing, or is no cell, or a guest's memory cannot hold it.
    """
    if not patterns:
        return matrix()
    return tuple(dict.fromkeys(cell for pattern in patterns for cell in _selected(pattern)))


def _selected(pattern: str) -> tuple[Cell, ...]:
    letters = by_letter()
    if pattern not in letters and not WILDCARDS & set(pattern):
        return (named(pattern),)
    cells = matrix()
    first = letters.get(pattern[0])
    if first is not None and not first.l0_tdp:
        cells = tuple(without_tdp(cell) for cell in cells if cell.setup is first.setup)
    glob = f"{pattern}:*" if pattern in letters else pattern
    found = tuple(cell for cell in cells if fnmatchcase(cell.id, glob))
    if not found:
        raise UsageError(
            f"no default cell matches {pattern!r}",
            "`kvmharness run --list` shows the default ones; a cell without *, ? and [ can be any.",
        )
    return found
