"""Tests of any battery as reports show them: what failed, with its evidence, what was skipped and why, and counts."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from kvmharness.report.rows import rows
from kvmharness.results.record import Record
from kvmharness.results.tests import BAD, PASS, SKIP, TestResult, tally
from kvmharness.results.verdict import Outcome, listed

_OUTCOMES = {PASS: Outcome.PASS, SKIP: Outcome.SKIPPED} | dict.fromkeys(BAD, Outcome.FAIL)
_LINES = 16  # of a failure's output, unless all of it is wanted


def outcome_of(test: TestResult) -> Outcome:
    """What a test says by itself, without comparison."""
    return _OUTCOMES[test.outcome]


def overall(tests: Iterable[TestResult]) -> Outcome:
    """What all of them say."""
    return Outcome.overall([outcome_of(test) for test in tests])


def outcome_of_runs(records: Sequence[Record]) -> Outcome:
    """What the cells and tests of several runs say by themselves; a run that was cut short has passed nothing."""
    outcomes = [Outcome.INCONCLUSIVE for record in records if record.partial]
    for record in records:
        outcomes += [*(row.outcome for row in rows(record)), *map(outcome_of, record.tests)]
    return Outcome.overall(outcomes)


def failure_lines(test: TestResult, *, every: bool = False) -> list[str]:
    """A test that failed: its name, why, and the end of what it printed, or all of it."""
    left_out = 0 if every else max(0, len(test.table) - _LINES)
    cut = [f"... {left_out} lines before"] if left_out else []
    return [f"{test.outcome.upper()} {test.label}: {test.why}", *cut, *test.table[left_out:]]


def skip_lines(tests: Iterable[TestResult]) -> list[str]:
    """What was skipped, a line for each reason."""
    skipped = sorted((test for test in tests if test.outcome == SKIP), key=lambda test: test.why)
    return [
        f"SKIPPED {why}: {listed(list(dict.fromkeys(test.label for test in group)), 4)}"
        for why, group in groupby(skipped, key=lambda test: test.why)
    ]


class Group(NamedTuple):
    """The tests of one battery under one variant."""

    battery: str
    variant: str
    tally: str
    failed: tuple[TestResult, ...]
    skipped: tuple[str, ...]


def groups(tests: Sequence[TestResult]) -> list[Group]:
    """By battery and variant, in the order of the run."""
    found: dict[tuple[str, str], list[TestResult]] = {}
    for test in tests:
        found.setdefault((test.battery, test.variant), []).append(test)
    return [
        Group(battery, variant, tally(own), tuple(t for t in own if t.outcome in BAD), tuple(skip_lines(own)))
        for (battery, variant), own in found.items()
    ]
