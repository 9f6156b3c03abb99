"""A whole run: variants and cells in, one Record out, on this machine or in an emulated host.

A run is a list of turns, each one variant under one set of module parameters doing its cells. A job's steps load the
variant, run the cells, unload it; in an emulated host one boot does all turns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvmharness.cells.cell import Cell
from kvmharness.cells.params import Params, tdp_off
from kvmharness.cells.passes import Plan
from kvmharness.cells.plan import Planned
from kvmharness.cells.rotation import scenario
from kvmharness.cells.surroundings import Surroundings, surroundings
from kvmharness.cells.turn import EXECUTE, PlannedTurn
from kvmharness.hosts.kernelconfig import config_hash
from kvmharness.lab.job import Job, Machine
from kvmharness.lab.machines.thiskernel import ThisKernel
from kvmharness.lab.steps import Call, Load, Step, Unload
from kvmharness.oracle import oracles
from kvmharness.results.record import OracleView, Prediction, Record, VariantId
from kvmharness.validation.collector import Clock, Collector, OnLoad, OnResult
from kvmharness.validation.probing import surroundings_of

# In an emulator samples differ by whole timer ticks of its kernel only: short ones, so that most have none.
EMULATED_PLAN = Plan(warmup=32, round_trips=48, batches=8, batch_round_trips=6, timeout_s=3.0)

_BOOT_S, _TURN_S, _CELL_S = 90.0, 15.0, 4.0  # generous: several times what an idle machine takes


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
        params: module parameters, ``(("kvm.tdp_mmu", "N"),)``.
        cells: what to run on it.
    """

    number: int
    variant: str
    params: Params
    cells: tuple[Cell, ...]


def schedule(order: Sequence[str], cells: Sequence[Cell]) -> tuple[Turn, ...]:
    """The turns of an interleaving; cells that want other module parameters make turns of their own.

    Those without parameters come first, and those without EPT or NPT last: the record's facts of the host are those of
    the first turn, and cells are labelled by them.

    Args:
        order: variant names in the order they run in, for example none, both, both, none.
        cells: for each of them.
    """
    groups: dict[Params, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.params, []).append(cell)
    return tuple(
        Turn(number, name, params, tuple(group))
        for number, name in enumerate(order)
        for params, group in sorted(groups.items(), key=lambda each: (tdp_off(dict(each[0])), bool(each[0])))
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
        DeviceError: there is no /dev/kvm.
        StepFailedError: cells cannot be run here.
        KeyboardInterrupt: Ctrl-C; every VM is gone by then.
    """
    clock = Clock()
    there = surroundings()
    variant = VariantId("host", f"running kernel {there.facts.kernel_release}", oracle=oracle)
    collector = Collector(on_result)
    for number in range(turns):
        planned = _planned(Turn(number, variant.name, (), tuple(cells)), there, plan, variant)
        collector.expect(number, planned, (_call(planned),))
    ThisKernel().run(Job(collector.steps), collector.take)
    return collector.record(command, clock, (variant,), _host(there))


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
        on_load: takes the name of each variant that is about to be loaded.

    Raises:
        LostMachineError: the machine died, or says what cannot be; what it had done by then is lost.
        StepFailedError: a variant does not load or unload, or its cells cannot be run.
    """
    clock = Clock()
    turns = schedule(order, cells)
    by_name = {variant.id.name: variant for variant in variants}
    collector = Collector(on_result, on_load)

    def boot(places: Sequence[int], there: Mapping[Params, Surroundings]) -> None:
        chosen = [turns[place] for place in places]
        collector.begin_job()
        for place, turn in zip(places, chosen, strict=True):
            planned = _planned(turn, there[turn.params], plan, by_name[turn.variant].id)
            steps: tuple[Step, ...] = (Load(turn.variant, dict(turn.params)), _call(planned), Unload())
            collector.expect(place, planned, steps)
        modules = {turn.variant: by_name[turn.variant].modules for turn in chosen}
        machine.run(Job(collector.steps, modules=modules, timeout_s=_timeout_s(chosen)), collector.take)

    there = surroundings_of(machine, by_name[order[0]].modules, [turn.params for turn in turns])
    boot(range(len(turns)), there)
    for name in dict.fromkeys(turns[place].variant for place in collector.differ):
        own = [place for place in collector.differ if turns[place].variant == name]
        boot(own, surroundings_of(machine, by_name[name].modules, [turns[place].params for place in own]))
    host = _host(there[turns[0].params], machine)
    return collector.record(command, clock, tuple(variant.id for variant in variants), host)


def _host(there: Surroundings, machine: Machine | None = None) -> dict[str, Any]:
    """What the record says about the host."""
    if machine is not None and there.facts.emulated:
        return there.for_record() | {"emulator": machine.description}
    return there.for_record() | {"config_hash": config_hash()}


def _planned(turn: Turn, there: Surroundings, plan: Plan, variant: VariantId) -> PlannedTurn:
    def predict(planned: Planned) -> Prediction | None:
        """What the oracle says; nothing where it does not know the kernel or its MMU."""
        if there.facts.l0_tdp is None:
            return None
        moves = planned.vendor is not None and planned.vendor.l1_moves_cr3
        told = scenario(planned.cell, l0_tdp=there.facts.l0_tdp, l1_mov_cr3=moves)
        return oracles.predict(variant.oracle, told, planned.passes.warmup, planned.passes.round_trips)

    return PlannedTurn(turn.cells, there, plan, variant=variant.name, number=turn.number, predict=predict)


def _call(planned: PlannedTurn) -> Call:
    return Call(EXECUTE, planned.arguments, required=True)


def _timeout_s(turns: Sequence[Turn]) -> float:
    return _BOOT_S + sum(_TURN_S + _CELL_S * len(turn.cells) for turn in turns)
