"""KTAP version 1, as kselftest and KUnit print it and kernel CI reads it.

Source: Documentation/dev-tools/ktap.rst, "The Kernel Test Anything Protocol (KTAP), version 1".
"""

from collections.abc import Sequence
from typing import NamedTuple

from kvmharness.report import words
from kvmharness.report.rows import rows
from kvmharness.report.tests import outcome_of
from kvmharness.results.record import Record
from kvmharness.results.verdict import Outcome, Verdict

INDENT = "  "


class _Test(NamedTuple):
    name: str
    outcome: Outcome
    why: str = ""
    diagnostics: tuple[str, ...] = ()


def verdict_ktap(verdict: Verdict) -> list[str]:
    """A verdict: the series is the test, its claims are the subtests, their figures the diagnostics."""
    claims = [
        _Test(claim.name, claim.outcome, claim.figures[0] if claim.figures else "", (claim.text, *claim.figures))
        for claim in verdict.claims
    ]
    notes = [f"{title}: {line}" for title, lines in verdict.remarks.items() for line in lines]
    return _suite(_Test(verdict.series, verdict.outcome, "", (verdict.headline, *notes)), claims)


def run_ktap(records: Sequence[Record]) -> list[str]:
    """Runs without a verdict: one test a record, one subtest a cell or test and variant, judged by itself."""
    lines = ["KTAP version 1", f"1..{len(records)}"]
    for number, record in enumerate(records, 1):
        tests = [_Test(f"{row.id} {row.variant}", row.outcome, row.why) for row in rows(record)]
        tests += [
            _Test(f"{each.label} {each.variant}", outcome_of(each), each.why, each.table) for each in record.tests
        ]
        outcome = Outcome.overall([test.outcome for test in tests])
        lines += [INDENT + line for line in _subtests(tests)]
        lines += [_result(number, _Test(f"{words.kernel(record)}, {words.machine(record)}", outcome))]
    return lines


def _suite(whole: _Test, tests: Sequence[_Test]) -> list[str]:
    return [
        "KTAP version 1",
        "1..1",
        *(INDENT + line for line in _subtests(tests)),
        *(f"# {_one_line(diagnostic)}" for diagnostic in whole.diagnostics),
        _result(1, whole),
    ]


def _subtests(tests: Sequence[_Test]) -> list[str]:
    lines = ["KTAP version 1", f"1..{len(tests)}"]
    for number, test in enumerate(tests, 1):
        lines += [f"# {_one_line(diagnostic)}" for diagnostic in test.diagnostics]
        lines.append(_result(number, test))
    return lines


def _result(number: int, test: _Test) -> str:
    """One result line.

    KTAP knows no third answer: an inconclusive test is "not ok" with SKIP, which readers count neither as passed nor
    as failed.
    """
    ok = "ok" if test.outcome in (Outcome.PASS, Outcome.SKIPPED) else "not ok"
    name = _one_line(test.name).replace("#", "no.")
    why = _one_line(test.why)
    match test.outcome:
        case Outcome.SKIPPED:
            tail = f" # SKIP {why}"
        case Outcome.INCONCLUSIVE:
            tail = f" # SKIP inconclusive: {why}" if why else " # SKIP inconclusive"
        case _:
            tail = f" # {why}" if why and test.outcome is Outcome.FAIL else ""
    return f"{ok} {number} {name}{tail}".rstrip()


def _one_line(text: str) -> str:
    return " ".join(text.split())
