"""Whether a guest's memory holds a cell: asked before anything is booted."""

from functools import cache

from kvmharness.cells.cell import Cell
from kvmharness.cells.rotation import rotation
from kvmharness.errors import UsageError
from kvmharness.guest import spaces
from kvmharness.guest.layout import ROWS_MAX
from kvmharness.vendors.known import VENDORS


def check_fits(cell: Cell) -> None:
    """Refuses a cell that no guest can be built for.

    Raises:
        UsageError: it has more tables, or more round trips until it repeats, than a guest's memory holds.
    """
    order = rotation(cell)
    try:
        _check_tables(order.host_roots, order.guest_roots, cell.eptps)
    except ValueError as e:
        raise UsageError(
            f"{cell.id} does not fit into a guest's memory: {e}",
            "Take fewer; only under /pcid do the CR3s of a level share one table.",
        ) from e
    if order.period > ROWS_MAX:
        raise UsageError(
            f"{cell.id} repeats only after {order.period} round trips, and a guest's memory holds {ROWS_MAX}",
            "Take numbers with common factors.",
        )


@cache
def _check_tables(host_roots: int, guest_roots: int, epts: int) -> None:
    for vendor in VENDORS:
        spaces.build(host_roots, guest_roots, epts, vendor.nested_space)
