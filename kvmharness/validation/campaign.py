"""A whole run: variants and cells in, one Record out, on this machine or in an emulated host.

A run is a list of turns, each one variant under one set of module parameters doing its cells. A job's steps load the
variant, run the cells, unload it; in an emulated host one boot does all turns.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kvmharness import __version__
from kvmharness.cells.cell import Cell
from kvmharness.cells.experiment import Plan
from kvmharness.errors import UsageError
from kvmharness.guest import shipped as programs
from kvmharness.lab.events import Begin, Data, Dmesg, End, Event
from kvmharness.lab.job import Job, Machine, ProtocolError
from kvmharness.lab.machines.thiskernel import ThisKernel
from kvmharness.lab.steps import Call, Load, Step, Unload
from kvmharness.results.jsonread import an_object
from kvmharness.results.record import UNIT_EMULATED, UNIT_TSC, CellResult, Record, VariantId, When

RUN_CELLS = "kvmharness.cells.experiment:run_cells"

# In an emulator samples differ by whole timer ticks of its kernel only: short ones, so that most have none.
EMULATED_PLAN = Plan(warmup=32, round_trips=48, batches=8, batch_round_trips=6, timeout_s=3.0)

_BOOT_S, _TURN_S, _CELL_S = 90.0, 15.0, 4.0  # generous: several times what an idle machine takes

OnResult = Callable[[CellResult, int, int], None]
"""Takes each result as it arrives, how many there are by now, and how many there will be."""

OnLoad = Callable[[str], None]
"""Takes a variant's name."""


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
        for params, group in groups.items()
    )


def run_here(
    cells: Sequence[Cell],
    plan: Plan,
    *,
    turns: int = 1,
    oracle: Mapping[str, bool] | None,
    command: Sequence[str],
    on_result: OnResult,
) -> Record:
    """Runs cells on this machine, under the kernel that is running.

    Args:
        cells: what to run.
        plan: how long each pass is.
        turns: how often all of them are run, in new VMs each time.
        oracle: which patches that kernel has, or None for no prediction.
        command: how to make this run again, for the record.
        on_result: takes each result as it arrives.

    Raises:
        StepFailedError: cells cannot be run here; its exit code is SKIPPED when there is no /dev/kvm.
        KeyboardInterrupt: Ctrl-C; every VM is gone by then.
    """
    planned = [Turn(number, "host", {}, tuple(cells)) for number in range(turns)]
    collector = _Collector([(turn, (_call(turn, plan, oracle, {}),)) for turn in planned], on_result)
    started = _Clock()
    ThisKernel().run(Job(collector.steps), collector.take)
    source = f"running kernel {collector.host.get('kernel_release')}"
    return collector.record(command, started, (VariantId("host", source, oracle=oracle),))


def run_in(
    machine: Machine,
    variants: Sequence[Variant],
    order: Sequence[str],
    cells: Sequence[Cell],
    plan: Plan = EMULATED_PLAN,
    *,
    command: Sequence[str],
    on_result: OnResult,
    on_load: OnLoad = lambda name: None,
) -> Record:
    """Runs cells on each variant in turn, in one boot of an emulated host.

    Args:
        machine: the emulated host.
        variants: all that the order names.
        order: variant names in the order they run in; a name may stand there several times.
        cells: for each turn.
        plan: how long each pass is.
        command: how to make this run again, for the record.
        on_result: takes each result as it arrives.
        on_load: takes the name of each variant that is about to be loaded.

    Raises:
        LostMachineError: the machine died, or says what cannot be; what it had done by then is lost.
        StepFailedError: a variant does not load or unload, or its cells cannot be run.
    """
    planned = schedule(order, cells)
    by_name = {variant.id.name: variant for variant in variants}
    images = programs.pack()
    steps = [(turn, _steps(turn, plan, by_name[turn.variant].id.oracle, images)) for turn in planned]
    collector = _Collector(steps, on_result, on_load)
    modules = {name: variant.modules for name, variant in by_name.items()}
    started = _Clock()
    machine.run(Job(collector.steps, modules=modules, timeout_s=_timeout_s(planned)), collector.take)
    if collector.host.get("emulated") is not None:
        collector.host["emulator"] = machine.description
    return collector.record(command, started, tuple(variant.id for variant in variants))


def _steps(turn: Turn, plan: Plan, oracle: Mapping[str, bool] | None, images: Mapping[str, Any]) -> tuple[Step, ...]:
    return (Load(turn.variant, dict(turn.params)), _call(turn, plan, oracle, images), Unload())


def _call(turn: Turn, plan: Plan, oracle: Mapping[str, bool] | None, images: Mapping[str, Any]) -> Call:
    arguments = {
        "cells": [cell.to_json() for cell in turn.cells],
        "plan": asdict(plan),
        "variant": turn.variant,
        "turn": turn.number,
        "oracle": None if oracle is None else dict(oracle),
        "images": images if turn.number == 0 else {},  # one interpreter does all steps
    }
    return Call(RUN_CELLS, arguments, required=True)


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
    """Takes what a job's host says, holds it against what was planned, and makes the record of it.

    Args:
        planned: the turns, each with its steps.
        on_result: takes each result.
        on_load: takes the name of each variant that is about to be loaded.
    """

    def __init__(
        self, planned: Sequence[tuple[Turn, Sequence[Step]]], on_result: OnResult, on_load: OnLoad = lambda name: None
    ) -> None:
        self.steps = tuple(step for _, steps in planned for step in steps)
        self.host: dict[str, object] = {}
        self._turns = [_Progress(turn) for turn, _ in planned]
        self._turn_of = [turn for turn, (_, steps) in zip(self._turns, planned, strict=True) for _ in steps]
        self._on_result, self._on_load = on_result, on_load

    def take(self, event: Event) -> None:
        """Takes one event.

        Raises:
            UsageError: a result that nobody asked for, or none of a cell that was to run.
        """
        match event:
            case Begin(step) if isinstance(self.steps[step], Load):
                self._on_load(self._turn_of[step].turn.variant)
            case Data(step, data) if "host" in data:
                self.host = self.host or an_object(data["host"], "host")
            case Data(step, data):
                self._result(self._turn_of[step], CellResult.from_json(data.get("result")))
            case Dmesg(step, lines):
                self._turn_of[step].log += lines
            case End(step) if isinstance(self.steps[step], Call) and (left := self._turn_of[step].left):
                raise UsageError(f"no result of {left[0].id}")

    def _result(self, turn: "_Progress", result: CellResult) -> None:
        asked = [(cell.id, turn.turn.variant, turn.turn.number) for cell in turn.left[:1]]
        if [(result.id, result.variant, result.turn)] != asked:
            raise UsageError(f"a result of {result.id} under {result.variant}, which nobody asked for")
        turn.results.append(result)
        done = sum(len(each.results) for each in self._turns)
        self._on_result(result, done, done + sum(len(each.left) for each in self._turns))

    def record(self, command: Sequence[str], started: _Clock, variants: tuple[VariantId, ...]) -> Record:
        """The record of what was taken.

        Raises:
            ProtocolError: results that contradict themselves.
        """
        record = Record(
            tool_version=__version__,
            command=tuple(command),
            when=started.when(),
            host=self.host,
            unit=UNIT_EMULATED if self.host.get("emulated") else UNIT_TSC,
            variants=variants,
            results=tuple(replace(result, dmesg=turn.log) for turn in self._turns for result in turn.results),
            dmesg=tuple(line for turn in self._turns for line in turn.log),
            notes=tuple(filter(None, [str(self.host.get("tsc_problem") or "")])),
        )
        try:
            record.check()
        except UsageError as error:
            raise ProtocolError(str(error)) from error
        return record


@dataclass(slots=True)
class _Progress:
    """How far a turn has come.

    Attributes:
        results: of its cells, in order.
        log: what the kernel said while its variant was loaded, used and unloaded: it goes with each of the results.
    """

    turn: Turn
    results: list[CellResult] = field(default_factory=list)
    log: tuple[str, ...] = ()

    @property
    def left(self) -> tuple[Cell, ...]:
        """The cells that have no result yet."""
        return self.turn.cells[len(self.results) :]
