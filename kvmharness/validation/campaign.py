"""A whole run: variants and cells in, one Record out, on this machine or in an emulated host.

A run is a list of turns, each one variant under one set of module parameters doing its cells. A job's steps load the
variant, run the cells, unload it; in an emulated host one boot does all turns.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kvmharness import __version__
from kvmharness.cells.cell import Cell
from kvmharness.cells.execute import execute
from kvmharness.cells.passes import Plan
from kvmharness.cells.plan import Planned
from kvmharness.cells.rotation import scenario
from kvmharness.cells.surroundings import Surroundings, surroundings
from kvmharness.cells.turn import EXECUTE, DiffersError, PlannedTurn
from kvmharness.errors import ExitCode, KvmHarnessError, LostMachineError
from kvmharness.lab.job import Event, Job, Machine
from kvmharness.measure.clock import UNIT_EMULATED, UNIT_TSC
from kvmharness.oracle import oracles
from kvmharness.results.record import (
    CellResult,
    OracleView,
    Prediction,
    Record,
    VariantId,
    When,
)
from kvmharness.validation.probing import Params
from kvmharness.validation.probing import surroundings as surroundings_of

# In an emulator samples differ by whole timer ticks of its kernel only: short ones, so that most have none.
EMULATED_PLAN = Plan(warmup=32, round_trips=48, batches=8, batch_round_trips=6, timeout_s=3.0)

_BOOT_S, _TURN_S, _CELL_S = 90.0, 15.0, 4.0  # generous: several times what an idle machine takes

OnResult = Callable[[CellResult, int, int], None]
"""Takes each result as it arrives, how many there are by now, and how many there will be."""


class StepFailedError(KvmHarnessError):
    """A step failed inside the host under test.

    Attributes:
        kind: of the step: "load", "unload", "call" or "exec".
        turn: which turn it belonged to.
    """

    def __init__(self, event: Event, kind: str, turn: int) -> None:
        what = str(event.get("message"))
        if event.get("traceback"):
            what = f"a bug: {event.get('type')}: {what}\n{event['traceback']}"
        super().__init__(f"in the host under test, {kind} failed: {what}", str(event.get("hint") or ""))
        code = event.get("exit_code")
        self.exit_code = ExitCode(code) if isinstance(code, int) else ExitCode.LOST
        self.kind, self.turn = kind, turn


@dataclass(frozen=True, slots=True)
class Variant:
    """KVM modules to run cells on.

    Attributes:
        id: what the record says about it.
        modules: folder with kvm.ko and the vendor's module.
    """

    id: VariantId
    modules: Path


@dataclass(frozen=True, slots=True)
class Turn:
    """One variant, loaded once with one set of parameters.

    Attributes:
        number: position in the interleaving.
        variant: its name.
        params: module parameters, ``{"kvm.tdp_mmu": "N"}``.
        cells: what to run on it.
    """

    number: int
    variant: str
    params: Mapping[str, str]
    cells: tuple[Cell, ...]

    @property
    def group(self) -> Params:
        """The parameters as something to look up by."""
        return tuple(sorted(self.params.items()))


def schedule(order: Sequence[str], cells: Sequence[Cell]) -> tuple[Turn, ...]:
    """The turns of an interleaving; cells that want other module parameters make turns of their own.

    Args:
        order: variant names in the order they run in, for example none, both, both, none.
        cells: for each of them.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.params, []).append(cell)
    return tuple(
        Turn(number, name, dict(params), tuple(group))
        for number, name in enumerate(order)
        # Without parameters first: the record's facts of the host are those of the first turn.
        for params, group in sorted(groups.items(), key=lambda each: bool(each[0]))
    )


def run_here(
    cells: Sequence[Cell],
    plan: Plan,
    *,
    turns: int = 1,
    oracle: OracleView | None,
    command: Sequence[str],
    on_result: OnResult,
) -> Record:
    """Runs cells on this machine, under the kernel that is running.

    Args:
        cells: what to run.
        plan: how long each pass is.
        turns: how often all of them are run, in new VMs each time.
        oracle: how one sees that kernel, or None for no prediction.
        command: how to make this run again, for the record.
        on_result: takes each result as it arrives.

    Raises:
        HostRequirementError: no /dev/kvm.
        KeyboardInterrupt: Ctrl-C; every VM is gone by then.
    """
    started = _Clock()
    there = surroundings()
    variant = VariantId("host", f"running kernel {there.facts.kernel_release}", oracle=oracle)
    collector = _Collector(len(cells) * turns, on_result)
    for turn in schedule(("host",) * turns, cells):
        planned = _planned(turn, there, plan, variant)
        collector.begin(turn.number, planned)
        execute(collector.data, **planned.arguments)
        collector.end()
    return collector.record(command, started, (variant,), there.for_record())


def run_in(
    machine: Machine,
    variants: Sequence[Variant],
    order: Sequence[str],
    cells: Sequence[Cell],
    plan: Plan = EMULATED_PLAN,
    *,
    command: Sequence[str],
    on_result: OnResult,
) -> Record:
    """Runs cells on each variant in turn, in one boot of an emulated host.

    All turns are planned for the KVM of the first variant. One whose KVM turns out to offer guests something else is
    asked what that is, and gets a boot of its own.

    Args:
        machine: the emulated host.
        variants: all that the order names.
        order: variant names in the order they run in; a name may stand there several times.
        cells: for each turn.
        plan: how long each pass is.
        command: how to make this run again, for the record.
        on_result: takes each result as it arrives.

    Raises:
        LostMachineError: the machine died; what it had done by then is lost.
        StepFailedError: a variant does not load or unload.
    """
    turns = dict(enumerate(schedule(order, cells)))
    by_name = {variant.id.name: variant for variant in variants}
    started = _Clock()
    groups = [turn.group for turn in turns.values()]
    there = surroundings_of(machine, by_name[order[0]].modules, groups)
    first = there[groups[0]]
    collector = _Collector(sum(len(turn.cells) for turn in turns.values()), on_result)
    _run_turns(machine, turns, by_name, there, plan, collector)
    for name in dict.fromkeys(turns[place].variant for place in collector.differ):
        own = {place: turns[place] for place in collector.differ if turns[place].variant == name}
        there = surroundings_of(machine, by_name[name].modules, [turn.group for turn in own.values()])
        _run_turns(machine, own, by_name, there, plan, collector)
    host = first.for_record() | ({"emulator": machine.description} if first.facts.emulated else {})
    return collector.record(command, started, tuple(variant.id for variant in variants), host)


def _run_turns(
    machine: Machine,
    turns: Mapping[int, Turn],
    variants: Mapping[str, Variant],
    there: Mapping[Params, Surroundings],
    plan: Plan,
    collector: "_Collector",
) -> None:
    """One boot."""
    planned = {
        place: _planned(turn, there[turn.group], plan, variants[turn.variant].id) for place, turn in turns.items()
    }
    steps: list[Mapping[str, Any]] = []
    for place, turn in turns.items():
        steps += [
            {"do": "load", "variant": turn.variant, "params": dict(turn.params), "turn": turn.number},
            {"do": "call", "function": EXECUTE, "args": planned[place].arguments, "turn": turn.number},
            {"do": "unload", "turn": turn.number},
        ]
    modules = {turn.variant: variants[turn.variant].modules for turn in turns.values()}
    places = list(turns)

    def on_event(event: Event) -> None:
        step = int(str(event["step"])) if "step" in event else 0
        match event.get("event"):
            case "begin" if event.get("do") == "load":
                place = places[step // len(_STEPS_OF_A_TURN)]
                collector.begin(place, planned[place])
            case "data":
                collector.data(event["data"])  # type: ignore[arg-type]
            case "dmesg":
                collector.log(str(line) for line in event["lines"])  # type: ignore[attr-defined]
            case "end" if step % len(_STEPS_OF_A_TURN) == _STEPS_OF_A_TURN.index("unload"):
                collector.end()
            case "error":
                raise StepFailedError(event, str(steps[step]["do"]), int(str(steps[step]["turn"])))

    machine.run(Job(tuple(steps), modules=modules, timeout_s=_timeout_s(list(turns.values()))), on_event)


_STEPS_OF_A_TURN = ("load", "call", "unload")


def _planned(turn: Turn, there: Surroundings, plan: Plan, variant: VariantId) -> PlannedTurn:
    def predict(planned: Planned) -> Prediction | None:
        """What the oracle says; nothing where it does not know the kernel or its MMU."""
        if there.facts.l0_tdp is None:
            return None
        moves = planned.vendor is not None and planned.vendor.l1_moves_cr3
        told = scenario(planned.cell, l0_tdp=there.facts.l0_tdp, l1_mov_cr3=moves)
        return oracles.predict(variant.oracle, told, planned.passes.warmup, planned.passes.round_trips)

    return PlannedTurn(turn.cells, there, plan, variant=variant.name, number=turn.number, predict=predict)


def _timeout_s(planned: Sequence[Turn]) -> float:
    return _BOOT_S + sum(_TURN_S + _CELL_S * len(turn.cells) for turn in planned)


class _Clock:
    """When a run started, and how long ago that is."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.iso = datetime.now(UTC).isoformat(timespec="seconds")

    def when(self) -> When:
        return When(self.iso, round(time.monotonic() - self._began, 1))


class _Collector:
    """Takes what the turns of a run give, in the order in which they run, and makes the record of it.

    Args:
        total: how many results will come.
        on_result: takes each of them.

    Attributes:
        differ: the places of turns that were planned for another KVM than theirs, so that nothing was run.
    """

    def __init__(self, total: int, on_result: OnResult) -> None:
        self.differ: list[int] = []
        self._total, self._on_result, self._done = total, on_result, 0
        self._results: dict[int, list[CellResult]] = {}
        self._logs: dict[int, tuple[str, ...]] = {}  # what the kernel's log gained in a turn
        self._place = 0
        self._turn: PlannedTurn | None = None

    def begin(self, place: int, turn: PlannedTurn) -> None:
        """A turn begins: what comes now is its."""
        self._place, self._turn = place, turn
        self._results[place], self._logs[place] = [], ()

    def data(self, data: dict[str, Any]) -> None:
        """What its cells gave.

        Raises:
            LostMachineError: it is no result that is due.
        """
        if self._turn is None:
            raise LostMachineError("the host under test sent a result where none was due")
        try:
            self._add(self._turn.take(data))
        except DiffersError:
            self.differ.append(self._place)
            self._turn = None

    def log(self, lines: Iterable[str]) -> None:
        """What the kernel said while its variant was loaded, used and unloaded."""
        self._logs[self._place] = (*self._logs.get(self._place, ()), *lines)

    def end(self) -> None:
        """The turn is over; what the kernel said goes with each of its results.

        Raises:
            LostMachineError: a result is missing.
        """
        turn, self._turn = self._turn, None
        if turn is not None:
            self._add(turn.rest())
        log = self._logs[self._place]
        self._results[self._place] = [replace(result, dmesg=log) for result in self._results[self._place]]

    def _add(self, results: Iterable[CellResult]) -> None:
        for result in results:
            self._results[self._place].append(result)
            self._done += 1
            self._on_result(result, self._done, self._total)

    def record(
        self, command: Sequence[str], started: _Clock, variants: tuple[VariantId, ...], host: Mapping[str, Any]
    ) -> Record:
        """The whole run."""
        places = sorted(self._results)
        return Record(
            tool_version=__version__,
            command=tuple(command),
            when=started.when(),
            host=dict(host),
            unit=UNIT_EMULATED if host.get("emulated") else UNIT_TSC,
            variants=variants,
            results=tuple(result for place in places for result in self._results[place]),
            dmesg=tuple(line for place in places for line in self._logs[place]),
            notes=tuple(filter(None, [str(host.get("tsc_problem") or "")])),
        )
