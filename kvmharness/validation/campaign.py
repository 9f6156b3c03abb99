"""A whole run: variants and cells in, one Record out, on this machine or in an emulated host.

A run is a list of turns, each one variant under one set of module parameters doing its cells. A job's steps load the
variant, run the cells, unload it; in an emulated host one boot does all turns, unless one of them takes the kernel
down: then what is left goes on in another boot.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from kvmharness import __version__
from kvmharness.cells.cell import Cell
from kvmharness.cells.params import Params
from kvmharness.cells.passes import Plan
from kvmharness.cells.plan import Planned
from kvmharness.cells.rotation import scenario
from kvmharness.cells.surroundings import Surroundings, surroundings
from kvmharness.cells.turn import EXECUTE, PlannedTurn
from kvmharness.lab.job import HangError, Job, KernelPanicError, Machine, StepFailedError
from kvmharness.lab.machines.thiskernel import ThisKernel
from kvmharness.lab.steps import Call, Load, Step, Unload
from kvmharness.measure.clock import UNIT_EMULATED, UNIT_TSC
from kvmharness.measure.watch import Watch
from kvmharness.oracle import oracles
from kvmharness.results.journal import Journal
from kvmharness.results.power import Detect
from kvmharness.results.record import OracleView, Prediction, Record, VariantId, When
from kvmharness.validation.collector import Clock, Collector, OnResult
from kvmharness.validation.detecting import until_seen
from kvmharness.validation.probing import surroundings_of
from kvmharness.validation.resume import check_same
from kvmharness.validation.sidebyside import side_by_side
from kvmharness.validation.turns import Turn, schedule

# In an emulator samples differ by whole timer ticks of its kernel only: short ones, so that most have none.
EMULATED_PLAN = Plan(warmup=32, round_trips=48, batches=8, batch_round_trips=6, timeout_s=3.0)

_BOOT_S, _TURN_S, _CELL_S = 90.0, 15.0, 4.0  # generous: several times what an idle machine takes
_LOSSES_MAX = 3  # boots that one variant may cost
_TURNS_AT_ONCE = 25  # planned for one job of this machine


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
class Keeping:
    """What is kept of a run while it goes on, and what was kept of an earlier one.

    Attributes:
        journal: every result goes there as soon as it has come.
        earlier: a record that was cut short; what it has is not run again.
        host: what the host is called, for its record; empty where there is but one.
    """

    journal: Journal = field(default_factory=Journal)
    earlier: Record | None = None
    host: str = ""


def run_here(
    cells: Sequence[Cell],
    plan: Plan,
    *,
    turns: int = 1,
    oracle: OracleView | None,
    command: Sequence[str],
    on_result: OnResult,
    keeping: Keeping | None = None,
    watch: Watch | None = None,
    detect: Detect | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Record:
    """Runs cells on this machine, under the kernel that is running.

    Args:
        cells: what to run.
        plan: how long each pass is.
        turns: how often all of them are run, in new VMs each time.
        oracle: how one sees that kernel, or None for no prediction.
        command: how to make this run again, for the record.
        on_result: takes each result as it arrives.
        keeping: see the class.
        watch: where, and what is looked at meanwhile.
        detect: after these turns more are run, until this would be seen.
        say: takes how many these are.

    Raises:
        DeviceError: there is no /dev/kvm.
        StepFailedError: cells cannot be run here.
        UsageError: the earlier record is of another run.
        KeyboardInterrupt: Ctrl-C; every VM is gone by then.
    """
    keeping, watch = keeping or Keeping(), watch or Watch()
    there = surroundings()
    variant = VariantId("host", f"running kernel {there.facts.kernel_release}", oracle=oracle)
    resumed = 0
    if detect is not None and keeping.earlier is not None:
        resumed = max((result.turn + 1 for result in keeping.earlier.results), default=0)
        turns += resumed  # how long these take is to be known
    wanted = [Turn(number, variant.name, (), tuple(cells)) for number in range(turns)]
    header = header_of(command, (variant,), there.for_record())
    collector = _collector(header, wanted, keeping, on_result)

    def run_turns(more: int = 0) -> None:
        new = [Turn(len(wanted) + number, variant.name, (), tuple(cells)) for number in range(more)]
        wanted.extend(new)
        collector.extend(new)
        while places := collector.pending[:_TURNS_AT_ONCE]:
            collector.begin_job()
            for place in places:
                planned = _planned(wanted[place], collector.remaining(place), there, plan, variant, watch)
                collector.expect(place, planned, (_call(planned),))
            ThisKernel().run(Job(collector.steps), collector.take)

    notes: tuple[str, ...] = ()
    with watch.run():
        run_turns()
        if detect is not None:
            notes = (until_seen(detect, collector.record, run_turns, say, resumed=resumed),)
    record = _watched(collector.record(), watch)
    return replace(record, notes=(*notes, *record.notes))


def run_in(
    machine: Machine,
    variants: Sequence[Variant],
    order: Sequence[str],
    cells: Sequence[Cell],
    plan: Plan = EMULATED_PLAN,
    *,
    command: Sequence[str],
    on_result: OnResult,
    keeping: Keeping | None = None,
) -> Record:
    """Runs cells on each variant in turn, in one boot of an emulated host.

    Where a job always gives the same, each half of the turns is done by a host of its own, as is each piece of a turn
    that is too long, all at the same time if the machine allows that; the record does not depend on whether. All turns
    are planned for the KVM of the first variant. One whose KVM turns out to offer guests something else is asked what
    that is, and gets a boot of its own. So does what is left when a variant takes the kernel down: the cell that was
    running then has an error for a result, and is not tried again.

    Args:
        machine: the emulated host.
        variants: all that the order names.
        order: variant names in the order they run in; a name may stand there several times.
        cells: for each turn.
        plan: how long each pass is.
        command: how to make this run again, for the record.
        on_result: takes each result as it arrives.
        keeping: see the class.

    Raises:
        LostMachineError: the machine died for reasons of its own, or says what cannot be.
        StepFailedError: the cells cannot be run.
        UsageError: the earlier record is of another run.
    """
    keeping = keeping or Keeping()
    turns = schedule(order, cells)
    with machine.watch.run() if machine.watch else nullcontext():
        record = _run_turns(machine, variants, turns, plan, command, on_result, keeping)
    return _watched(record, machine.watch)


def _run_turns(
    machine: Machine,
    variants: Sequence[Variant],
    turns: Sequence[Turn],
    plan: Plan,
    command: Sequence[str],
    on_result: OnResult,
    keeping: Keeping,
) -> Record:
    by_name = {variant.id.name: variant for variant in variants}
    there = surroundings_of(machine, by_name[turns[0].variant].modules, [turn.params for turn in turns])
    first = there[turns[0].params]
    host = first.for_record() | ({"emulator": machine.description} if first.facts.emulated else {})
    host |= {"name": keeping.host} if keeping.host else {}
    header = header_of(command, tuple(variant.id for variant in variants), host)
    collector = _collector(header, turns, keeping, on_result)
    boots = _Boots(machine, turns, by_name, plan, collector)
    boots.side_by_side(collector.pending, there)
    for name in dict.fromkeys(turns[place].variant for place in sorted(collector.differ)):
        own = [place for place in collector.differ if turns[place].variant == name]
        boots.until_done(own, surroundings_of(machine, by_name[name].modules, [turns[place].params for place in own]))
    return collector.record()


def header_of(command: Sequence[str], variants: tuple[VariantId, ...], host: Mapping[str, object]) -> Record:
    """A record in which nothing has come yet."""
    return Record(
        tool_version=__version__,
        command=tuple(command),
        when=When("", 0),
        host=dict(host),
        unit=UNIT_EMULATED if host.get("emulated") else UNIT_TSC,
        variants=variants,
        results=(),
        notes=tuple(filter(None, [str(host.get("tsc_problem") or "")])),
    )


def _collector(header: Record, turns: Sequence[Turn], keeping: Keeping, on_result: OnResult) -> Collector:
    if keeping.earlier is not None:
        check_same(keeping.earlier, header)
    return Collector(header, turns, Clock(), on_result, journal=keeping.journal, earlier=keeping.earlier)


@dataclass(frozen=True, slots=True)
class _Boots:
    """Boots a machine as often as it takes to do turns."""

    machine: Machine
    turns: Sequence[Turn]
    by_name: Mapping[str, Variant]
    plan: Plan
    collector: Collector

    def side_by_side(self, places: Sequence[int], there: Mapping[Params, Surroundings]) -> None:
        """Does turns as :meth:`until_done`, several at the same time where their results cannot depend on that."""
        numbers = sorted({turn.number for turn in self.turns})
        half = numbers[len(numbers) // 2] if self.machine.identity else numbers[0]
        together = [place for place in places if not self.turns[place].alone]
        parts = [[place for place in together if (self.turns[place].number < half) is first] for first in (True, False)]
        parts += [[place] for place in places if self.turns[place].alone]
        side_by_side([partial(self.until_done, part, there) for part in parts if part], self.machine.at_once)

    def until_done(self, places: Iterable[int], there: Mapping[Params, Surroundings]) -> None:
        """Does turns, by their places, planned for what is there; each boot that is lost costs a cell or a turn."""
        left = list(places)
        while left:
            try:
                self._boot(left, there)
            except (KernelPanicError, HangError, StepFailedError) as error:
                lost = self.collector.lose(error)
                if lost is None:
                    raise
                if sum(loss.variant == lost for loss in self.collector.losses) >= _LOSSES_MAX:
                    self.collector.give_up(lost)
            else:
                return
            left = [place for place in left if place in self.collector.pending]

    def _boot(self, places: Sequence[int], there: Mapping[Params, Surroundings]) -> None:
        self.collector.begin_job()
        for place in places:
            turn, cells = self.turns[place], self.collector.remaining(place)
            planned = _planned(
                turn, cells, there[turn.params], self.plan, self.by_name[turn.variant].id, self.machine.watch
            )
            # What one variant leaves behind is held against what another one does.
            unload = Unload(memory=len({turn.variant for turn in self.turns}) > 1)
            steps: tuple[Step, ...] = (Load(turn.variant, dict(turn.params)), _call(planned), unload)
            self.collector.expect(place, planned, steps)
        chosen = [self.turns[place] for place in places]
        modules = {turn.variant: self.by_name[turn.variant].modules for turn in chosen}
        job = Job(self.collector.steps, modules=modules, timeout_s=_timeout_s(chosen))
        self.machine.run(job, self.collector.take)


def _watched(record: Record, watch: Watch | None) -> Record:
    """The record with what was seen on a real host."""
    if watch is None:
        return record
    return replace(record, host={**record.host, **watch.facts}, notes=(*record.notes, *watch.remarks))


def _planned(
    turn: Turn, cells: Sequence[Cell], there: Surroundings, plan: Plan, variant: VariantId, watch: Watch | None
) -> PlannedTurn:
    def predict(planned: Planned) -> Prediction | None:
        """What the oracle says; nothing where it does not know the kernel or its MMU."""
        if there.facts.l0_tdp is None:
            return None
        moves = planned.vendor is not None and planned.vendor.l1_moves_cr3
        told = scenario(planned.cell, l0_tdp=there.facts.l0_tdp, l1_mov_cr3=moves)
        return oracles.predict(variant.oracle, told, planned.passes.warmup, planned.passes.round_trips)

    backing = watch.memory if watch else None
    return PlannedTurn(cells, there, plan, variant=variant.name, number=turn.number, predict=predict, backing=backing)


def _call(planned: PlannedTurn) -> Call:
    return Call(EXECUTE, planned.arguments, required=True)


def _timeout_s(turns: Sequence[Turn]) -> float:
    return _BOOT_S + sum(_TURN_S + _CELL_S * len(turn.cells) for turn in turns)
