"""What every variant does under the debug kernel: whatever is to be done there as well is one more exercise here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from kvmharness.cells.cell import Cell
from kvmharness.cells.params import Params, tdp_off
from kvmharness.cells.passes import Plan
from kvmharness.cells.surroundings import Surroundings
from kvmharness.cells.turn import EXECUTE, DiffersError, PlannedTurn
from kvmharness.lab.steps import Call
from kvmharness.litmus.program import Program
from kvmharness.results.tests import LITMUS
from kvmharness.validation.litmus import one_call

# A report alone takes the better part of an emulated second.
_PLAN = Plan(warmup=16, round_trips=16, batches=1, batch_round_trips=8, timeout_s=30.0)


class Exercise(Protocol):
    """Something to do under the debug kernel once KVM's modules are loaded.

    Attributes:
        title: what is being done until it says so itself.
        params: module parameters that they are to be loaded with.
        call: what does it.
    """

    title: str

    @property
    def params(self) -> Params:
        """See the class."""
        ...

    @property
    def call(self) -> Call:
        """See the class."""
        ...

    def take(self, data: dict[str, Any]) -> tuple[str, str]:
        """Takes what the call emits; says what is being done now, if that is news, and what has failed, if it has."""
        ...


class Cells:
    """Measured cells as an exercise, without their figures."""

    title = "before the first cell"

    def __init__(self, params: Params, cells: Sequence[Cell], there: Surroundings) -> None:
        self.params = params
        self._planned = PlannedTurn(cells, there, _PLAN)
        # Counters would only be a cost: their kprobes are not what is under test.
        self.call = Call(EXECUTE, {**self._planned.arguments, "counters": []}, required=True)

    def take(self, data: dict[str, Any]) -> tuple[str, str]:
        """See :class:`Exercise`."""
        if "begins" in data:
            return self._planned.begins(data), ""
        errors = [result.error for result in self._planned.take(data) if result.error]
        return "", f"{errors[0].type}: {errors[0].message}" if errors else ""


class Litmus:
    """Litmus tests as an exercise, all of them in one VM; what they say is asked of them elsewhere."""

    title = LITMUS

    def __init__(self, params: Params, call: Call) -> None:
        self.params, self.call = params, call

    def take(self, data: dict[str, Any]) -> tuple[str, str]:
        """See :class:`Exercise`."""
        if "differs" in data:
            raise DiffersError(f"this KVM is not the one that the tests were planned for: {data['differs']}")
        error = data.get("error")
        return "", str(error or "")


def exercises(
    cells: Sequence[Cell], programs: Sequence[Program], there: Mapping[Params, Surroundings]
) -> list[Exercise]:
    """Everything that each variant has to do; those with the same parameters are done in one load.

    Args:
        cells: measured cells.
        programs: litmus tests, for each of the cells' parameters.
        there: what the host is with these.
    """
    found: list[Exercise] = []
    for params in settings(cells):
        found.append(Cells(params, tuple(cell for cell in cells if cell.params == params), there[params]))
        if call := one_call(params, programs, there[params]):
            found.append(Litmus(params, call))
    return found


def settings(cells: Iterable[Cell]) -> tuple[Params, ...]:
    """The module parameters that cells want, those that switch EPT or NPT off last."""
    return tuple(sorted({cell.params for cell in cells}, key=lambda params: (tdp_off(dict(params)), params)))


def a_few(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Of each kind of cells, those that differ in numbers only, the one with the most roots."""
    kinds: dict[Cell, Cell] = {}
    for cell in cells:
        kind = replace(cell, **{name: min(getattr(cell, name), 1) for name in ("host_cr3s", "guest_cr3s", "eptps")})
        if kind not in kinds or cell.roots > kinds[kind].roots:
            kinds[kind] = cell
    return tuple(kinds.values())
