"""A series on several hosts, one after the other, with one verdict."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from kvmharness.cells.cell import Cell
from kvmharness.cells.passes import Plan
from kvmharness.errors import KvmHarnessError, LostMachineError
from kvmharness.lab.job import StepFailedError
from kvmharness.results.record import CellResult, Record
from kvmharness.results.store import load
from kvmharness.results.tests import TestResult
from kvmharness.results.verdict import ClaimResult, Outcome, Verdict
from kvmharness.system.programs import Progress, silent
from kvmharness.validation.battery import with_litmus
from kvmharness.validation.campaign import Keeping
from kvmharness.validation.debugkernel import DebugPass
from kvmharness.validation.judges import judge, merged
from kvmharness.validation.prepare import Built
from kvmharness.validation.validate import MachineFor, builds, measure


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
        debug: what is to be run under the debug kernel there; None for nothing.
    """

    host: str
    machine_for: MachineFor
    built: Built
    cells: tuple[Cell, ...]
    plan: Plan
    keeping: Keeping = field(default_factory=Keeping)
    debug: DebugPass | None = None


@dataclass(frozen=True, slots=True)
class Together:
    """What the validations found.

    Attributes:
        verdict: one for all hosts.
        records: by the host's name; of one that was lost what there is.
    """

    verdict: Verdict
    records: Mapping[str, Record]


def validate_on(
    parts: Sequence[Part],
    *,
    turns: int,
    command: Sequence[str],
    untested: Sequence[str] = (),
    on_result: Callable[[str, CellResult, int, int], None],
    on_test: Callable[[str, TestResult], None] | None = None,
    tell: Progress = silent,
) -> Together:
    """Runs every variant on every host, and judges all of it at once.

    Args:
        parts: one a host, at least one.
        turns: how often each variant gets its turn on each host.
        command: what reproduces it.
        untested: what it is known not to tell, a sentence each.
        on_result: takes the host's name, each result, how many there are by now on that host, and how many there will
            be.
        on_test: takes the host's name, and each result of a litmus test; None for no litmus tests.
        tell: takes what else is being done.

    Raises:
        LostMachineError, StepFailedError: every host was lost for reasons of its own; as long as one is left, that
            is part of the verdict.
    """
    records: dict[str, Record] = {}
    others: dict[str, list[ClaimResult]] = {}
    lost: dict[str, LostMachineError | StepFailedError] = {}
    for part in parts:
        try:
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
            if on_test is not None:
                record = with_litmus(record, part.built, part.machine_for, partial(on_test, part.host))
            if part.debug:
                record = replace(record, tests=(*record.tests, *part.debug.run(tell)))
        except (LostMachineError, StepFailedError) as error:
            lost[part.host] = error
            if len(lost) == len(parts):
                raise
            journal = part.keeping.journal
            journal.cut_short = True
            if journal.path is not None and journal.path.exists():
                records[part.host] = _named(load(journal.path), part.host)
            continue
        others[part.host] = [builds(part.built)]
        records[part.host] = _named(record, part.host)
    verdict = judge(parts[0].built.subject, records, (*merged(others), *_answered(lost)), command=command)
    return Together(replace(verdict, untested=(*verdict.untested, *untested)), records)


def _named(record: Record, host: str) -> Record:
    return replace(record, host={**record.host, "name": host})


def _answered(lost: Mapping[str, KvmHarnessError]) -> tuple[ClaimResult, ...]:
    """The answer about hosts that were lost; none where all were there to the end."""
    if not lost:
        return ()
    figures = tuple(f"{host}: {error}" for host, error in lost.items())
    return (ClaimResult("every-host-answers", "Every host is there to the end.", Outcome.INCONCLUSIVE, figures),)
