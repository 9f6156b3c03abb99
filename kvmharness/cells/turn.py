"""One turn: cells that run under one variant, planned for its surroundings; raw results go in, results come out."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kvmharness.cells.cell import Cell
from kvmharness.cells.judge import Raw, blank, judge
from kvmharness.cells.passes import Plan
from kvmharness.cells.plan import Planned, plan
from kvmharness.cells.surroundings import Surroundings
from kvmharness.errors import KvmHarnessError, UsageError
from kvmharness.guest.shipped import run_loop
from kvmharness.hosts.needs import all_unmet
from kvmharness.lean.dataclasses import replace
from kvmharness.measure.perf import NESTED_EXITS, ROOT_SWITCHES, Spec, exit_specs, spec_to_json
from kvmharness.results.jsonread import Fields, ShapeError, integer, text
from kvmharness.results.record import CellError, CellResult, Prediction
from kvmharness.vendors.known import of_module
from kvmharness.vendors.vendor import exit_reasons

EXECUTE = "kvmharness.cells.execute:execute"
"""What a job calls, with :attr:`PlannedTurn.arguments`."""

Predict = Callable[[Planned], Prediction | None]
"""What the oracle says of a cell's counting pass, after its warm-up."""


class DiffersError(KvmHarnessError):
    """The cells were planned for another KVM than the one that was there."""


class PlannedTurn:
    """The cells of a turn.

    Args:
        cells: to run.
        there: where they will run.
        lengths: of the passes.
        variant, number: of the turn, copied into the results.
        predict: the oracle.
        backing: see :func:`kvmharness.cells.execute.execute`.

    Attributes:
        arguments: for :data:`EXECUTE`.
        size: how many results there will be.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        there: Surroundings,
        lengths: Plan,
        *,
        variant: str = "host",
        number: int = 0,
        predict: Predict = lambda planned: None,
        backing: Sequence[str] | None = None,
    ) -> None:
        vendor = of_module(there.facts.vendor_module)
        self._reasons = exit_reasons(vendor) if vendor else {}
        self._predict = predict
        self._results = [blank(cell, variant, number) for cell in cells]
        self._planned: dict[int, Planned] = {}
        for place, cell in enumerate(cells):
            self._plan(place, cell, there, lengths)
        self.size = len(cells)
        self._waiting = list(self._planned)
        self._given = 0  # results given out so far
        counters: tuple[Spec, ...] = (*ROOT_SWITCHES, NESTED_EXITS, *exit_specs(self._reasons))
        self.arguments: dict[str, Any] = {
            "cells": [planned.to_json() for planned in self._planned.values()],
            "offered": there.offered.to_json(),
            "parameters": dict(there.facts.module_parameters),
            "counters": [spec_to_json(spec) for spec in counters],
            "run_loop": run_loop().hex(),
        } | ({} if backing is None else {"backing": list(backing)})

    def _plan(self, place: int, cell: Cell, there: Surroundings, lengths: Plan) -> None:
        """A cell that cannot be planned has its result already."""
        if lacking := all_unmet(cell.needs, there.facts):
            self._results[place] = replace(self._results[place], skipped="; ".join(map(str, lacking)))
            return
        try:
            self._planned[place] = plan(cell, there.offered, lengths)
        except KvmHarnessError as e:
            self._results[place] = replace(self._results[place], error=CellError(type(e).__name__, str(e)))

    def take(self, data: dict[str, Any]) -> Iterator[CellResult]:
        """What the host under test emitted; gives the results that are known by now, in the cells' order.

        That a cell begins gives none: see :meth:`begins`.

        Raises:
            DiffersError: nothing was run.
            UsageError: it is no result of this turn's, or not in its form.
        """
        if "differs" in data:
            raise DiffersError(f"this KVM is not the one that the cells were planned for: {data['differs']}")
        if "begins" in data:
            self.begins(data)
            return
        try:
            raw = Raw.read(data)
        except ShapeError as e:
            raise UsageError(f"no result: {e}") from None
        done = len(self._planned) - len(self._waiting)
        if not self._waiting or raw.cell != done:
            raise UsageError(f"a result for cell {raw.cell} where that of cell {done} was due")
        place = self._waiting.pop(0)
        planned = self._planned[place]
        self._results[place] = judge(planned, raw, self._results[place], self._reasons, self._predict(planned))
        yield from self._up_to(place + 1)

    def begins(self, data: dict[str, Any]) -> str:
        """The id of the cell that the host under test says it begins with.

        Raises:
            UsageError: there is no such cell.
        """
        try:
            with Fields(data, "beginning") as taken:
                number = taken.take("begins", integer)
                taken.take("doing", text)
        except ShapeError as e:
            raise UsageError(str(e)) from None
        cells = list(self._planned.values())
        if not 0 <= number < len(cells):
            raise UsageError(f"cell {number} begins, of {len(cells)}")
        return cells[number].cell.id

    def rest(self) -> Iterator[CellResult]:
        """The results behind the last one that was run.

        Raises:
            UsageError: a cell has none.
        """
        if self._waiting:
            missing = ", ".join(self._results[place].id for place in self._waiting)
            raise UsageError(f"no result for {missing}")
        yield from self._up_to(len(self._results))

    def _up_to(self, end: int) -> Iterator[CellResult]:
        while self._given < end:
            self._given += 1
            yield self._results[self._given - 1]
