"""The order in which a cell uses its roots, as the guest's operand rows and as the oracle need it."""

from math import lcm

from kvmharness.cells.cell import Cell
from kvmharness.cells.setups import Order
from kvmharness.lean.dataclasses import dataclass
from kvmharness.oracle.scenario import Scenario

PCID_FIRST = 1  # PCIDs count from here; 0 is what L1 starts with


@dataclass(frozen=True, slots=True)
class Rotation:
    """The order in which a cell uses its roots: round trip r uses ``sequence[r % len(sequence)]``.

    An entry is a pair (root, PCID) for the CR3s and the index of an EPT for the EPTPs.
    """

    host: tuple[tuple[int, int], ...]
    guest: tuple[tuple[int, int], ...]
    ept: tuple[int, ...]
    l2_moves: tuple[tuple[int, int], ...]  # what L2 moves to CR3 itself; empty when it does not
    invept_every: int

    @property
    def period(self) -> int:
        """Round trips until everything repeats."""
        return lcm(len(self.host), max(len(self.guest), 1), max(len(self.ept), 1), max(self.invept_every, 1))

    @property
    def host_roots(self) -> int:
        """How many tables L1 has; PCIDs share one."""
        return len({root for root, _ in self.host})

    @property
    def guest_roots(self) -> int:
        """How many tables L2 has; 0 where there is no L2."""
        return len({root for root, _ in self.guest})


def rotation(cell: Cell) -> Rotation:
    """The orders of a cell."""
    guest = _cr3_order(cell.guest_cr3s, cell.pcid)
    return Rotation(
        host=_cr3_order(cell.host_cr3s, cell.pcid),
        guest=guest,
        l2_moves=guest[1:] + guest[:1] if cell.l2_moves_cr3 else (),
        ept=tuple(i for i in range(cell.eptps) for _ in range(2 if cell.order == Order.AABB else 1)),
        invept_every=cell.invept_every,
    )


def _cr3_order(count: int, pcid: bool) -> tuple[tuple[int, int], ...]:
    return tuple((0, PCID_FIRST + i) if pcid else (i, 0) for i in range(count))


def scenario(cell: Cell, *, l0_tdp: bool, l1_mov_cr3: bool = False) -> Scenario:
    """The cell as the oracle sees it; the numbers stand for roots and only their being equal matters.

    Args:
        cell: the cell.
        l0_tdp: whether L0 uses EPT or NPT for L1.
        l1_mov_cr3: whether L1 moves to its next CR3 before it enters L2, as it must on SVM.
    """
    order = rotation(cell)
    return Scenario(
        l0_tdp=l0_tdp,
        l1_gives_ept=cell.eptps > 0 if cell.nested else None,
        host_cr3=tuple(_pgd(1, root, pcid) for root, pcid in order.host),
        guest_cr3=tuple(_pgd(2, root, pcid) for root, pcid in order.guest),
        eptp=tuple((3 << 32) + (i << 12) for i in order.ept),
        invept_every=cell.invept_every,
        l2_mov_cr3=tuple(_pgd(2, root, pcid) for root, pcid in order.l2_moves),
        l1_mov_cr3=l1_mov_cr3,
        pcid=cell.pcid,
        boot_cr3=_pgd(1, 0, 0),
    )


def _pgd(level: int, root: int, pcid: int) -> int:
    return (level << 32) + ((root + 1) << 12) + pcid
