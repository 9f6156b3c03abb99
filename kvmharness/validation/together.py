"""A series on several hosts, one after the other or side by side, with one verdict."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from kvmharness.cells.cell import Cell
from kvmharness.cells.passes import Plan
from kvmharness.claims.checklist import CELLS, checklist
from kvmharness.errors import KvmHarnessError, LostMachineError
from kvmharness.lab.job import StepFailedError
from kvmharness.results.record import CellResult, Record
from kvmharness.results.store import load
from kvmharness.results.tests import TestResult
from kvmharness.results.verdict import CELLS_RUN, ClaimResult, Outcome, Verdict
from kvmharness.validation.battery import Battery
from kvmharness.validation.campaign import Keeping
from kvmharness.validation.judges import judge, merged
from kvmharness.validation.litmus import OnTest
from kvmharness.validation.pace import Pace
from kvmharness.validation.prepare import Built
from kvmharness.validation.sidebyside import side_by_side
from kvmharness.validation.validate import MachineFor, builds, measure

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Part:
    """What runs on one of the hosts.

    Attributes:
        host: its name, as the user may type it.
        machine_for: makes it for a kernel.
        built: the variants.
        cells: for each of them.
        plan: how long each pass is.
        keeping: of what runs there.
        batteries: what is run there besides the cells, in this order.
    """

    host: str
    machine_for: MachineFor
    built: Built
    cells: tuple[Cell, ...]
    plan: Plan
    keeping: Keeping = field(default_factory=Keeping)
    batteries: tuple[Battery, ...] = ()


@dataclass(frozen=True, slots=True)
class Together:
    """What the validations found.

    Attributes:
        verdict: one for all hosts.
        records: by the host's name; of one that was lost what there is.
        took: seconds, by what was run.
    """

    verdict: Verdict
    records: Mapping[str, Record]
    took: Mapping[str, float] = field(default_factory=dict)


def validate_on(
    parts: Sequence[Part],
    *,
    turns: int,
    command: Sequence[str],
    untested: Sequence[str] = (),
    on_result: Callable[[str, CellResult, int, int], None],
    on_test: Callable[[str, TestResult], None] = lambda host, test: None,
    pace: Pace | None = None,
    not_done: Mapping[str, str] | None = None,
    at_once: int = 1,
) -> Together:
    """Runs every variant on every host, and judges all of it at once.

    Args:
        parts: one a host, at least one.
        turns: how often each variant gets its turn on each host.
        command: what reproduces it.
        untested: what it is known not to tell, a sentence each.
        on_result: takes the host's name, each result, how many there are by now on that host, and how many there will
            be.
        on_test: takes the host's name, and each result of a battery.
        pace: takes how long each part took.
        not_done: why a battery was not run, by its name, for the list of what maintainers ask for; None for no list.
        at_once: how many of the hosts are at work at the same time.

    Raises:
        LostMachineError, StepFailedError: every host was lost for reasons of its own; as long as one is left, that
            is part of the verdict.
    """
    records: dict[str, Record] = {}
    others: dict[str, list[ClaimResult]] = {}
    lost: dict[str, LostMachineError | StepFailedError] = {}
    pace = pace or Pace(units(parts, turns), remember=False)

    def run(part: Part) -> None:
        try:
            with pace.part(f"{part.host} {CELLS}"):
                record = measure(
                    part.built,
                    part.machine_for,
                    part.cells,
                    turns=turns,
                    plan=part.plan,
                    command=command,
                    on_result=partial(on_result, part.host),
                    keeping=part.keeping,
                )
            for battery in part.batteries:
                with pace.part(f"{part.host} {battery.name}"):
                    record = _with(battery, record, part, partial(on_test, part.host))
        except (LostMachineError, StepFailedError) as error:
            lost[part.host] = error
            if len(lost) == len(parts):
                raise
            journal = part.keeping.journal
            journal.cut_short = True
            if journal.path is not None and journal.path.exists():
                records[part.host] = _named(load(journal.path), part.host)
            return
        others[part.host] = [builds(part.built)]
        records[part.host] = _named(record, part.host)

    side_by_side([partial(run, part) for part in parts], at_once)
    # Side by side they end in any order, and the verdict is to be the same.
    records = _in_order(records, parts)
    answers = (*merged(_in_order(others, parts)), *_answered(_in_order(lost, parts)))
    verdict = judge(parts[0].built.subject, records, answers, command=command)
    took = _by_battery(pace.took)
    if not_done is not None:
        verdict = replace(verdict, checklist=checklist(verdict.claims, records, took, not_done))
    return Together(replace(verdict, untested=(*verdict.untested, *untested)), records, took)


def units(parts: Sequence[Part], turns: int) -> dict[str, int]:
    """How much there is to do, by host and by what is run there."""
    found: dict[str, int] = {}
    for part in parts:
        found[f"{part.host} {CELLS}"] = len(part.built.variants) * len(part.cells) * turns
        found |= {f"{part.host} {battery.name}": battery.units for battery in part.batteries}
    return found


def _by_battery(took: Mapping[str, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, seconds in took.items():
        battery = name.rpartition(" ")[2]
        found[battery] = found.get(battery, 0.0) + seconds
    return found


def _with(battery: Battery, record: Record, part: Part, on_test: OnTest) -> Record:
    """The record, with what a battery gives; every result is kept as soon as it has come."""

    def kept(test: TestResult) -> None:
        part.keeping.journal.add_test(test)
        on_test(test)

    known = part.keeping.earlier.tests if part.keeping.earlier else ()
    found = battery.run(record, known, kept)
    dmesg = (*record.dmesg, *(line for log in found.logs for line in log.lines))
    return replace(record, tests=(*record.tests, *found.tests), logs=(*record.logs, *found.logs), dmesg=dmesg)


def _in_order(found: Mapping[str, _Found], parts: Sequence[Part]) -> dict[str, _Found]:
    return {part.host: found[part.host] for part in parts if part.host in found}


def _named(record: Record, host: str) -> Record:
    return replace(record, host={**record.host, "name": host})


def _answered(lost: Mapping[str, KvmHarnessError]) -> tuple[ClaimResult, ...]:
    """The answer about hosts that were lost; none where all were there to the end."""
    if not lost:
        return ()
    figures = tuple(f"{host}: {error}" for host, error in lost.items())
    return (
        ClaimResult(
            "every-host-answers", "Every host is there to the end.", Outcome.INCONCLUSIVE, figures, group=CELLS_RUN
        ),
    )
