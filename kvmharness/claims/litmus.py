"""What litmus tests say about a series: what holds without it must hold with it, and cost KVM no more."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from kvmharness.claims.findings import Finding
from kvmharness.results.tests import FAIL, PASS, SKIP, TestResult
from kvmharness.results.verdict import Outcome

_COUNTED = {"tlb_flush": "TLB flushes", "pf_fixed": "faults that KVM repaired", "mmu_cache_miss": "new shadow pages"}
_ROOM = 2  # of any of these: what a timer's interrupt drags along is no change
_SHARE = 0.1

NOT_RUN = Finding(Outcome.SKIPPED, "", "no litmus test ran")


def _by_label(tests: Sequence[TestResult], variant: str) -> dict[str, TestResult]:
    return {test.label: test for test in tests if test.variant == variant}


def failures(tests: Sequence[TestResult], base: str, variants: Iterable[str]) -> Iterator[Finding]:
    """A test that passes without the series, and does not with it."""
    before = _by_label(tests, base)
    for variant in variants:
        for label, test in _by_label(tests, variant).items():
            without = before.get(label)
            if test.outcome != SKIP or (without is not None and without.outcome == PASS):
                yield _judged(test, without, base, label)


def _judged(test: TestResult, before: TestResult | None, base: str, label: str) -> Finding:
    line = f"{label} {test.variant}: {test.why}"
    if test.outcome == PASS:
        return Finding(Outcome.PASS, label, "", test.variant)
    if test.outcome == SKIP:
        return Finding(Outcome.FAIL, label, f"{label} {test.variant}: skipped: {test.why}", test.variant)
    if before is not None and before.outcome == FAIL:
        return Finding(Outcome.INCONCLUSIVE, label, f"{line}; {base} fails there too", test.variant)
    # The table is the evidence: each of its lines is a line of the finding.
    return Finding(Outcome.FAIL, label, "\n".join([line, *test.table]), test.variant)


def more_work(tests: Sequence[TestResult], base: str, variants: Iterable[str]) -> Iterator[Finding]:
    """KVM's own figures over a test that passes either way."""
    before = _by_label(tests, base)
    for variant in variants:
        for label, test in _by_label(tests, variant).items():
            without = before.get(label)
            if without is not None and test.outcome == without.outcome == PASS:
                yield _compared(label, variant, without.counts, test.counts)


def _compared(label: str, variant: str, before: Mapping[str, int], after: Mapping[str, int]) -> Finding:
    for name, what in _COUNTED.items():
        if name in before and name in after and after[name] > before[name] * (1 + _SHARE) + _ROOM:
            line = f"{label} {variant}: {what} {before[name]} -> {after[name]}"
            return Finding(Outcome.FAIL, label, line, variant)
    return Finding(Outcome.PASS, label, "", variant)
