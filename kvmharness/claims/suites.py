"""What a suite says about a series: with it, nothing may fail that does not fail in the very same way without it.

Source: Documentation/process/maintainer-kvm-x86.rst, "Testing".
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kvmharness.claims.findings import Finding
from kvmharness.results.tests import BAD, FAIL, HANG, PASS, SKIP, TestResult, program_of
from kvmharness.results.verdict import Outcome

_LINES = 12  # of a new failure's output

Program = tuple[str, tuple[tuple[str, str], ...]]


def held(tests: Iterable[TestResult], base: str, variants: Sequence[str]) -> Iterator[Finding]:
    """A finding for each test and variant, and one for what there was in all.

    Args:
        tests: of one battery.
        base: the kernel without the series.
        variants: those that are judged.
    """
    by_variant: dict[str, dict[str, TestResult]] = {}
    for test in tests:
        by_variant.setdefault(test.variant, {})[test.label] = test
    before = by_variant.get(base, {})
    for variant in variants:
        ran = by_variant.get(variant)
        if ran is None:
            if before:
                yield Finding(Outcome.INCONCLUSIVE, "", f"{variant}: none of {len(before)} tests ran", variant)
            continue
        found = [_judged(test, before.get(label), base) for label, test in ran.items()]
        found += _missing(before.values(), ran.values(), variant)
        if not any(finding.outcome is Outcome.FAIL for finding in found):
            yield Finding(Outcome.PASS, "", f"{variant}: {_tally(ran.values(), before)}", variant)
        yield from found


def _judged(test: TestResult, before: TestResult | None, base: str) -> Finding:
    label, variant = test.label, test.variant
    was = f"{base}: {_told(before)}" if before else f"{base} has no such test"
    if test.outcome == PASS:
        repaired = before is not None and before.outcome in BAD
        return Finding(Outcome.PASS, label, f"{label} {variant}: repaired; {was}" * repaired, variant)
    if test.outcome == SKIP:
        lost = before is not None and before.outcome == PASS
        line = f"{label} {variant}: {_told(test)}; {was}" * lost
        return Finding(Outcome.FAIL if lost else Outcome.PASS, label if lost else "", line, variant)
    if before is not None and (before.outcome, before.why) == (test.outcome, test.why):
        return Finding(Outcome.PASS, label, f"{label}: {_told(test)}, with and without the series", variant)
    # What it printed is the evidence: each of its lines is a line of the finding.
    lines = [f"{label} {variant}: {_told(test)}; {was}", *test.table[-_LINES:]]
    # How a test that was stopped would have ended, nobody knows.
    cut = before is not None and before.outcome == HANG and test.outcome == FAIL
    return Finding(Outcome.INCONCLUSIVE if cut else Outcome.FAIL, label, "\n".join(lines), variant)


def _told(test: TestResult) -> str:
    return f"{test.outcome}: {test.why}" if test.why else test.outcome


def _missing(before: Iterable[TestResult], after: Iterable[TestResult], variant: str) -> Iterator[Finding]:
    """Tests that passed, and that a program which ran does not come to although nothing in it failed."""
    ran: dict[Program, set[str]] = {}
    failed: set[Program] = set()
    for test in after:
        ran.setdefault(_program(test), set()).add(test.name)
        if test.outcome in BAD:
            failed.add(_program(test))
    for test in before:
        program = _program(test)
        if test.outcome == PASS and program in ran and program not in failed and test.name not in ran[program]:
            line = f"{test.label} {variant}: no result; without the series it passes"
            yield Finding(Outcome.FAIL, test.label, line, variant)


def _program(test: TestResult) -> Program:
    """What a test is a line of: its name up to the colon; under the same parameters."""
    return program_of(test), tuple(sorted(test.params.items()))


def _tally(ran: Iterable[TestResult], before: Mapping[str, TestResult]) -> str:
    tests = list(ran)
    counts = Counter(test.outcome for test in tests)
    same = sum(test.outcome in BAD for test in tests)
    repaired = sum(
        test.outcome == PASS and test.label in before and before[test.label].outcome in BAD for test in tests
    )
    told = [f"{counts[PASS]} pass", f"{counts[SKIP]} skipped", f"{same} fail as they do without it"]
    return ", ".join([*told, f"{repaired} repaired"] if repaired else told)
