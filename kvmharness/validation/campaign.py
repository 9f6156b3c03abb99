"""A whole run: variants and cells in, one Record out, on this machine or in an emulated host.

A run is a list of turns, each one variant under one set of module parameters doing its cells. A job's steps load the
variant, run the cells, unload it; in an emulated host one boot does all turns.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kvmharness import __version__
from kvmharness.cells.cell import Cell
from kvmharness.cells.experiment import Plan, run_cells
from kvmharness.errors import ExitCode, KvmHarnessError
from kvmharness.guest import shipped as programs
from kvmharness.lab.job import Event, Job, Machine
from kvmharness.measure.clock import UNIT_EMULATED, UNIT_TSC
from kvmharness.results.record import CellResult, Record, VariantId, When

RUN_CELLS = "kvmharness.cells.experiment:run_cells"

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
        HostRequirementError: no /dev/kvm.
        KeyboardInterrupt: Ctrl-C; every VM is gone by then.
    """
    collector = _Collector(len(cells) * turns, on_result)
    started = _Clock()
    data = [cell.to_json() for cell in cells]
    for turn in range(turns):
        run_cells(collector.take, cells=data, plan=asdict(plan), turn=turn, oracle=oracle)
    host = collector.host
    variant = VariantId("host", f"running kernel {host.get('kernel_release')}", oracle=oracle)
    return collector.record(command, started, (variant,))


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
    planned = schedule(order, cells)
    by_name = {variant.id.name: variant for variant in variants}
    images = programs.pack()
    steps: list[Mapping[str, Any]] = []
    for turn in planned:
        steps += _steps(turn, by_name[turn.variant].id, plan, images)
    job = Job(tuple(steps), modules={name: v.modules for name, v in by_name.items()}, timeout_s=_timeout_s(planned))
    collector = _Collector(sum(len(turn.cells) for turn in planned), on_result, steps)
    started = _Clock()
    machine.run(job, collector.event)
    if collector.host.get("emulated") is not None:
        collector.host["emulator"] = machine.description
    return collector.record(command, started, tuple(variant.id for variant in variants))


def _steps(turn: Turn, variant: VariantId, plan: Plan, images: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    arguments = {
        "cells": [cell.to_json() for cell in turn.cells],
        "plan": asdict(plan),
        "variant": turn.variant,
        "turn": turn.number,
        "oracle": None if variant.oracle is None else dict(variant.oracle),
        "images": images if turn.number == 0 else {},  # one interpreter does all steps
    }
    return [
        {"do": "load", "variant": turn.variant, "params": dict(turn.params), "turn": turn.number},
        {"do": "call", "function": RUN_CELLS, "args": arguments, "turn": turn.number},
        {"do": "unload", "turn": turn.number},
    ]


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
    """Takes what a run sends, in order, and makes the record of it.

    Args:
        total: how many results will come.
        on_result: takes each of them.
        steps: of the job, each with its turn.
    """

    def __init__(self, total: int, on_result: OnResult, steps: Sequence[Mapping[str, Any]] = ()) -> None:
        self.host: dict[str, Any] = {}
        self._total, self._on_result, self._steps = total, on_result, steps
        self._results: list[CellResult] = []
        self._dmesg: list[str] = []
        self._first_of_turn = 0
        self._log: tuple[str, ...] = ()  # what the kernel's log gained in this turn

    def take(self, data: Mapping[str, Any]) -> None:
        """What :func:`run_cells` emits."""
        if "host" in data:
            self.host = self.host or dict(data["host"])
            return
        result = CellResult.from_json(data["result"])
        self._results.append(result)
        self._on_result(result, len(self._results), self._total)

    def event(self, event: Event) -> None:
        """What an emulated host's agent sends.

        Raises:
            StepFailedError: a step failed.
        """
        step = self._steps[int(str(event["step"]))] if "step" in event else {}
        match event.get("event"):
            case "begin" if step["do"] == "load":
                self._first_of_turn, self._log = len(self._results), ()
            case "data":
                self.take(event["data"])  # type: ignore[arg-type]
            case "dmesg":
                self._log += tuple(str(line) for line in event["lines"])  # type: ignore[attr-defined]
            case "end" if step["do"] == "unload":
                self._end_turn()
            case "error":
                raise StepFailedError(event, step["do"], step["turn"])

    def _end_turn(self) -> None:
        """What the kernel said while a variant was loaded, used and unloaded goes with each result of that turn."""
        self._dmesg += self._log
        for i in range(self._first_of_turn, len(self._results)):
            self._results[i] = replace(self._results[i], dmesg=self._log)

    def record(self, command: Sequence[str], started: _Clock, variants: tuple[VariantId, ...]) -> Record:
        return Record(
            tool_version=__version__,
            command=tuple(command),
            when=started.when(),
            host=self.host,
            unit=UNIT_EMULATED if self.host.get("emulated") else UNIT_TSC,
            variants=variants,
            results=tuple(self._results),
            dmesg=tuple(self._dmesg),
            notes=tuple(filter(None, [str(self.host.get("tsc_problem") or "")])),
        )
