"""A cell of the matrix, as frozen data with a name: which roots L1, L2 and the EPTs use, and in which order.

The instructions are the same in every cell of a set-up, only the operand rows differ. A cell that makes no sense cannot
be made, and a cell's id is all of it: ``Cell.parse(cell.id) == cell``.
"""

from collections.abc import Mapping
from typing import Any

from kvmharness.cells import params as parameters
from kvmharness.cells.setups import MARKS, MOST, Order, Setup
from kvmharness.errors import UsageError
from kvmharness.lean.dataclasses import dataclass, fields, replace

__all__ = ["Cell", "Order", "Setup", "on_vendor", "with_params", "without_tdp"]

_COUNTS = ("host_cr3s", "guest_cr3s", "eptps")
_LACKING = {"guest_cr3s": "there is no L2", "eptps": "L1 gives L2 no EPT"}


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
        params: KVM's module parameters that this cell wants, as (name, value) pairs in order of their names, for
            example ("kvm.tdp_mmu", "N"); ("tdp", "0") for L0 without EPT or NPT, see :func:`on_vendor`.

    Raises:
        UsageError: the fields contradict each other or the set-up, or one is out of its range.
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
    params: parameters.Params = ()

    def __post_init__(self) -> None:
        if not isinstance(self.setup, Setup) or not isinstance(self.order, Order):
            raise UsageError(f"{self.setup!r}, {self.order!r}: a Setup and an Order are expected")
        for name in _COUNTS:
            self._check_count(name)
        if self.order is not Order.ABAB and "order" not in self.setup.row.shape:
            ordered = ", ".join(f"({setup})" for setup in Setup if "order" in setup.row.shape)
            raise UsageError(
                f"order = {self.order}: there are no EPTPs to put in order in set-up ({self.setup})",
                f"Leave it away, or take set-up {ordered}.",
            )
        for mark in MARKS:
            value = getattr(self, mark.field)
            if type(value) is not (int if mark.value is None else bool) or not 0 <= value <= MOST:
                what = f"a number from 0 to {MOST}" if mark.value is None else "True or False"
                raise UsageError(f"{mark.field} = {value!r}: {what} is expected")
            if mark.shown(value) and not getattr(self, mark.about):
                raise UsageError(
                    f"{mark.field} = {value}: {_LACKING[mark.about]} in set-up ({self.setup})", "Leave it away."
                )
        parameters.check_all(self.params)

    def _check_count(self, name: str) -> None:
        value, fixed = getattr(self, name), self.setup.row.fixed.get(name)
        if fixed is not None and value != fixed:
            raise UsageError(f"{name} = {value!r}: set-up ({self.setup}) has {fixed}", f"Say {name}={fixed}.")
        if type(value) is not int or (fixed is None and not 1 <= value <= MOST):
            raise UsageError(f"{name} = {value!r}: a number from 1 to {MOST} is expected in set-up ({self.setup})")

    @property
    def nested(self) -> bool:
        """Whether there is an L2 at all."""
        return self.setup.nested

    @property
    def id(self) -> str:
        """Names the cell, for example ``a:3x3/pcid`` or ``c:3/AABB``: all of it, in the language of cells."""
        letter = self.setup.letter(l0_tdp=parameters.TDP_OFF not in self.params)
        said = [parameters.TDP_OFF] if letter != self.setup else []
        params = [parameters.shown(*pair) for pair in self.params if pair not in said]
        return "/".join([f"{letter}:{self.shape}", *self.marks, *params])

    @property
    def shape(self) -> str:
        """The numbers and the order of the id: ``3x3``, ``3/AABB``, ``5``."""
        row = self.setup.row
        parts = row.parts
        if any(getattr(self, name) != 1 for name in _COUNTS if f"{{{name}}}" in row.optional):
            parts = (*parts, row.optional)
        shown = {name: getattr(self, name) for name in (*_COUNTS, "order")}
        return "/".join(part.format(**shown) for part in parts)

    @property
    def marks(self) -> tuple[str, ...]:
        """The marks of the id: ``("pcid", "invept8")``."""
        return tuple(filter(None, (mark.shown(getattr(self, mark.field)) for mark in MARKS)))

    @property
    def roots(self) -> int:
        """How many roots compete for the cache in which the cell's rotation takes place."""
        return sum(getattr(self, name) for name in self.setup.row.rotates)

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of what the host must offer, as in :mod:`kvmharness.hosts`."""
        wanted = {
            "invept": self.invept_every > 0,
            "tlb_tags": self.nested and self.vpid,
            "pcid": self.pcid,
        }
        return ("kvm", *self.setup.row.needs, *(name for name, needed in wanted.items() if needed))

    @classmethod
    def parse(cls, text: str) -> "Cell":
        """The cell of an id, and of what means the same: marks in any order, ``e:3x3`` for (a) without EPT or NPT.

        Raises:
            UsageError: says where *text* goes wrong, and what is expected there.
        """
        from kvmharness.cells.language import read  # not at the top: an emulated host reads none

        try:
            return cls(**read(text))
        except UsageError as e:
            hint = e.hint or "`kvmharness run --list` explains how cells are written."
            raise UsageError(f"{text!r} is no cell: {e}", hint) from e

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
            given["setup"] = Setup(given["setup"])  # type: ignore[call-arg]  # looks a member up, makes none
            given["order"] = Order(given.get("order", Order.ABAB))
            given["params"] = tuple(sorted(given.get("params", {}).items()))
            return cls(**given)
        except (AttributeError, KeyError, TypeError, ValueError, UsageError) as e:
            raise UsageError(f"not a cell of the matrix: {data!r} ({e})") from e


def with_params(cell: Cell, params: Mapping[str, str]) -> Cell:
    """The same cell under these module parameters besides its own, for example ``{"kvm.tdp_mmu": "N"}``."""
    return replace(cell, params=tuple(sorted({**dict(cell.params), **params}.items())))


def without_tdp(cell: Cell) -> Cell:
    """The same cell on an L0 without EPT or NPT, by whichever parameter the host has for it: (a) becomes (e)."""
    return with_params(cell, dict([parameters.TDP_OFF]))


def on_vendor(cell: Cell, vendor_module: str) -> Cell:
    """The same cell for a host: its parameters under the names that the vendor's modules have.

    Args:
        cell: as the user named it.
        vendor_module: "kvm_intel" or "kvm_amd".

    Raises:
        UsageError: it wants a parameter of another vendor's module.
    """
    try:
        return replace(cell, params=parameters.for_vendor(cell.params, vendor_module))
    except UsageError as e:
        raise UsageError(f"{cell.id}: {e}", e.hint) from e
