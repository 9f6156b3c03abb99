"""What the guests can be asked to do: the cells of the matrix, as frozen data.

A cell says which roots L1, L2 and the EPTs use and in which order; the instructions are the same in every cell of a
set-up, only the operand rows differ.
"""

from collections.abc import Mapping
from enum import StrEnum
from math import lcm
from typing import Any

from kvmharness.errors import UsageError
from kvmharness.lean.dataclasses import dataclass, fields, replace
from kvmharness.oracle.scenario import Scenario

PCID_FIRST = 1  # PCIDs count from here; 0 is what L1 starts with


class Setup(StrEnum):
    """The set-ups of the matrix. (e) is (a) on an L0 without EPT."""

    NO_EPT = "a"  # L1 gives L2 no EPT: one MMU serves both
    ONE_EPTP = "b"  # L1 gives L2 one EPT
    EPTPS = "c"  # several EPTs, in turn
    L1_ALONE = "d"  # no L2: MOV-CR3 in L1


class Order(StrEnum):
    """How several EPTPs follow each other."""

    ABAB = "ABAB"
    AABB = "AABB"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the matrix.

    Attributes:
        setup: which MMUs take part.
        host_cr3s: n1, how many CR3s L1 rotates through: its HOST_CR3s, or for L1 alone the operands of MOV-CR3.
        guest_cr3s: n2, how many GUEST_CR3s; 0 for L1 alone.
        eptps: E, how many EPTPs; 0 where L1 gives L2 no EPT.
        order: of the EPTPs.
        pcid: the CR3s name one table under different PCIDs, with CR4.PCIDE = 1.
        vpid: VMCS12 enables VPID, with one constant value.
        invept_every: L1 executes INVEPT of the row's EPTP before every so many entries; 0 never.
        l2_moves_cr3: L2 moves to the next of its CR3s itself before the hypercall.
        params: KVM's module parameters that this cell wants, as (name, value) pairs, for example ("kvm.tdp_mmu", "N").
    """

    setup: Setup
    host_cr3s: int = 1
    guest_cr3s: int = 1
    eptps: int = 0
    order: Order = Order.ABAB
    pcid: bool = False
    vpid: bool = True
    invept_every: int = 0
    l2_moves_cr3: bool = False
    params: tuple[tuple[str, str], ...] = ()

    @property
    def nested(self) -> bool:
        """Whether there is an L2 at all."""
        return self.setup != Setup.L1_ALONE

    @property
    def id(self) -> str:
        """Names the cell within a record, for example ``a:3x3/pcid`` or ``c:3/AABB``."""
        match self.setup:
            case Setup.L1_ALONE:
                shape = f"{self.host_cr3s}"
            case Setup.EPTPS:
                shape = f"{self.eptps}/{self.order}"
            case _:
                shape = f"{self.host_cr3s}x{self.guest_cr3s}"
        marks = {
            "pcid": self.pcid,
            "novpid": self.nested and not self.vpid,
            f"invept{self.invept_every}": self.invept_every,
            "l2cr3": self.l2_moves_cr3,
        }
        extra = [mark for mark, wanted in marks.items() if wanted]
        extra += [f"{name.rpartition('.')[2]}={value}" for name, value in self.params]
        return "/".join([f"{self.setup}:{shape}", *extra])

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of what the host must offer, as in :mod:`kvmharness.hosts`."""
        wanted = {
            "kvm": True,
            "nested": self.nested,
            "tdp": self.eptps > 0,
            "invept": self.invept_every > 0,
            "tlb_tags": self.nested and self.vpid,
            "pcid": self.pcid,
        }
        return tuple(name for name, needed in wanted.items() if needed)

    def to_json(self) -> dict[str, Any]:
        """Plain data, for the record and for a job in an emulated host."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        return data | {"setup": str(self.setup), "order": str(self.order), "params": dict(self.params)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Cell":
        """The inverse of :meth:`to_json`.

        Raises:
            UsageError: not a cell.
        """
        try:
            given = dict(data)
            given["setup"], given["order"] = Setup(given["setup"]), Order(given.get("order", Order.ABAB))
            given["params"] = tuple(sorted(given.get("params", {}).items()))
            return cls(**given)
        except (KeyError, TypeError, ValueError) as e:
            raise UsageError(f"not a cell of the matrix: {data!r} ({e})") from e


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


def rotation(cell: Cell) -> Rotation:
    """The orders of a cell."""
    guest = _cr3_order(cell.guest_cr3s, cell.pcid) if cell.nested else ()
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


def l0_uses_tdp(params: Mapping[str, str], *, offered: bool) -> bool:
    """Whether L0 uses EPT or NPT: the host may lack it, and a cell may switch it off by module parameter.

    Without it set-up (a) is (e).

    Args:
        params: of the cell, by "module.name".
        offered: whether the host has it at all.
    """
    asked = {name.rpartition(".")[2]: value for name, value in params.items()}
    return offered and asked.get("ept", asked.get("npt", "Y")) not in ("0", "N", "n")


def with_params(cell: Cell, params: dict[str, str]) -> Cell:
    """The same cell under these module parameters besides its own, for example ``{"kvm.tdp_mmu": "N"}``."""
    return replace(cell, params=tuple(sorted({**dict(cell.params), **params}.items())))


COUNTS = (1, 2, 3, 4, 5, 8)  # both sides of the cache's size, which is 4: the current root and three previous ones
PAIRS = ((1, 4), (2, 3), (3, 3), (4, 4))


def matrix() -> tuple[Cell, ...]:
    """Every cell of the default matrix, set-up by set-up."""
    shapes = [(n, 1) for n in COUNTS] + list(PAIRS)
    cells = [
        replace(Cell(Setup.NO_EPT, n1, n2), pcid=pcid, vpid=vpid)
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


NO_TDP = {"kvm_intel": {"kvm_intel.ept": "0"}, "kvm_amd": {"kvm_amd.npt": "0"}}
"""The module parameters that make L0 shadow page tables, by the vendor's KVM module."""


def validation_matrix(vendor_module: str = "kvm_intel") -> tuple[Cell, ...]:
    """The cells that a series is validated with: a choice of the whole matrix, and more module parameters.

    With L0's EPT or NPT off, (a) becomes (e), and (d) exits: these are the negative controls.

    Args:
        vendor_module: of the host; it names the parameter that switches EPT or NPT off.
    """
    no_ept, no_tdp_mmu = NO_TDP[vendor_module], {"kvm.tdp_mmu": "N"}
    pairs = [(n, 1) for n in COUNTS] + list(PAIRS)
    cells = [Cell(Setup.NO_EPT, n1, n2) for n1, n2 in pairs]
    cells += [replace(Cell(Setup.NO_EPT, n, n), pcid=True) for n in (1, 3)]
    cells += [replace(Cell(Setup.NO_EPT, n, n), vpid=False) for n in (1, 3)]
    cells += [Cell(Setup.ONE_EPTP, n1, eptps=1) for n1 in COUNTS]
    cells += [Cell(Setup.ONE_EPTP, n1, eptps=1, invept_every=8) for n1 in (1, 5)]
    cells += [Cell(Setup.ONE_EPTP, 5, eptps=1, pcid=True)]
    cells += [Cell(Setup.EPTPS, eptps=count) for count in (1, 3, 5)]
    cells += [Cell(Setup.EPTPS, eptps=count, order=Order.AABB) for count in COUNTS]
    cells += [Cell(Setup.L1_ALONE, n, guest_cr3s=0) for n in (1, 5)]
    telling = (Cell(Setup.NO_EPT), Cell(Setup.NO_EPT, 3, 3), Cell(Setup.ONE_EPTP, 5, eptps=1))
    cells += [with_params(cell, no_tdp_mmu) for cell in (*telling, Cell(Setup.EPTPS, eptps=3, order=Order.AABB))]
    cells += [with_params(Cell(Setup.NO_EPT, n, n), no_ept) for n in (1, 3, 4)]
    cells += [with_params(Cell(Setup.L1_ALONE, n, guest_cr3s=0), no_ept) for n in (1, 4, 5)]
    return tuple(cells)


def select(patterns: tuple[str, ...]) -> tuple[Cell, ...]:
    """The cells of the default matrix whose id matches one of the shell-style patterns; all without patterns.

    A set-up's letter alone stands for all its cells.

    Raises:
        UsageError: a pattern matches nothing.
    """
    from fnmatch import fnmatchcase

    cells = matrix()
    if not patterns:
        return cells
    wanted: dict[Cell, None] = {}
    for pattern in patterns:
        glob = f"{pattern}:*" if pattern in set(Setup) else pattern
        found = [cell for cell in cells if fnmatchcase(cell.id, glob)]
        if not found:
            raise UsageError(
                f"no workload matches {pattern!r}",
                "`kvmharness run --list` shows them all; a letter a to d stands for a whole set-up.",
            )
        wanted |= dict.fromkeys(found)
    return tuple(wanted)
