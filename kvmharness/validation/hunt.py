"""Random litmus tests for as long as one likes; what fails is shrunk on the spot."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Protocol

from kvmharness.cells.params import Params
from kvmharness.cells.surroundings import Surroundings
from kvmharness.kvm.nested import find_vendor
from kvmharness.litmus.hunt.generate import programs
from kvmharness.litmus.hunt.shrink import shrink
from kvmharness.litmus.judge import Outcome
from kvmharness.litmus.model.machine import judgeable
from kvmharness.litmus.needs import offers
from kvmharness.litmus.program import Program
from kvmharness.litmus.table import lines, why
from kvmharness.results.tests import FAIL
from kvmharness.validation.litmus import Tested, joined
from kvmharness.vendors.known import by_asid

BATCH = 40  # programs a job: what a restored host costs is then a tenth of it
_SHRUNK_MAX = 4  # failures that are shrunk; the next ones are most likely the same


class Run(Protocol):
    """Runs programs under one setting."""

    def __call__(self, some: Sequence[Program], params: Params) -> Tested:
        """See the class."""
        ...


@dataclass(frozen=True, slots=True)
class Random:
    """What is asked for.

    Attributes:
        seed: of all programs.
        seconds: for how long new ones are begun; None for one batch a setting, which always gives the same.
    """

    seed: int
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Hunted:
    """What came of it.

    Attributes:
        tested: results of all programs; the table of a failure is that of its shortest form.
        shrunk: those shortest forms.
        rows: how many rows ran.
    """

    tested: Tested
    shrunk: tuple[Program, ...]
    rows: int


def hunt(
    asked: Random,
    run: Run,
    there: dict[Params, Surroundings],
    say: Callable[[str, int], None],
) -> Hunted:
    """Runs batches under each setting in turn.

    Args:
        asked: which programs, and for how long.
        run: runs some.
        there: the settings, and what the host is under each.
        say: takes what is going on, and how many rows have run by now.
    """
    found = Tested((), (), {})
    shrunk: list[Program] = []
    rows = 0
    until = time.monotonic() + (asked.seconds or 0)
    number = 0
    while number < len(there) or (asked.seconds is not None and time.monotonic() < until):
        params = list(there)[number % len(there)]
        batch = _batch(asked.seed, number // len(there), there[params])
        tested = run(batch, params)
        rows += sum(len(program.rows) for program in batch)
        say(f"{sum(test.outcome == FAIL for test in tested.tests)} of {len(batch)} failed", rows)
        for program in batch:
            outcome = tested.outcomes.get(program.name)
            if outcome is not None and not outcome.passed and len(shrunk) < _SHRUNK_MAX:
                svm = by_asid(find_vendor(there[params].offered))
                short = shortest(program, outcome, partial(run, params=params), say, rows, svm=svm)
                shrunk.append(short[0])
                tested = _told(tested, *short)
        found = joined((found, tested))
        number += 1
    return Hunted(found, tuple(shrunk), rows)


def _batch(seed: int, number: int, there: Surroundings) -> list[Program]:
    vendor = find_vendor(there.offered)
    return list(islice(programs(seed, offers(vendor, there.offered), svm=by_asid(vendor), first=number * BATCH), BATCH))


def shortest(
    program: Program,
    outcome: Outcome,
    run: Callable[[Sequence[Program]], Tested],
    say: Callable[[str, int], None],
    rows: int,
    *,
    svm: bool,
) -> tuple[Program, Outcome]:
    """The shortest form of a program that failed, and what came of it.

    Args:
        program, outcome: the one that failed, and how.
        run: runs programs where it failed.
        say, rows: takes how it is getting on, and how many rows had run before.
        svm: the vendor's rules.
    """

    def attempt(candidates: Sequence[Program]) -> list[Outcome]:
        named = [replace(each, name=f"{program.name}-{n}") for n, each in enumerate(candidates)]
        outcomes = run([each for each in named if judgeable(each, svm=svm)]).outcomes
        # What nobody can judge, or a host lacks something for, has not failed.
        return [outcomes.get(each.name, Outcome(each.name, ())) for each in named]

    short = shrink(program, outcome, attempt, lambda each: say(f"{program.name}: {len(each.rows)} rows left", rows))
    return short, replace(attempt([short])[0], name=program.name)


def _told(tested: Tested, short: Program, outcome: Outcome) -> Tested:
    """The result of the program that was shrunk says what the short one does."""
    tests = tuple(
        replace(test, why=why(outcome), table=lines(outcome)) if test.name == short.name else test
        for test in tested.tests
    )
    return replace(tested, tests=tests)
