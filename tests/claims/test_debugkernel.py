"""The row about the debug kernel: whose fault a report is, and what cannot be said."""

import pytest

from kvmharness.claims.debugkernel import quiet
from kvmharness.results.tests import DEBUG_KERNEL, FAIL, PASS, SKIP, TestResult
from kvmharness.results.verdict import Outcome

KASAN = "BUG: KASAN: use-after-free in free_nested+0x19a/0x2c0 [kvm_intel]"


def ran(variant, outcome=PASS, why="", name="", table=()):
    return TestResult(DEBUG_KERNEL, name, variant, outcome=outcome, why=why, table=table)


def found(*tests):
    return [(finding.outcome, finding.variant) for finding in quiet(tests, "none", ("p1", "all"))]


def test_what_was_not_asked_for_is_skipped_and_says_how_to_ask():
    (finding,) = quiet([TestResult("litmus", "x", "p1", outcome=FAIL)], "none", ("p1",))
    assert finding.outcome is Outcome.SKIPPED
    assert "--debug-kernel" in finding.line


def test_a_report_is_the_fault_of_each_variant_that_has_it():
    tests = (ran("none"), ran("p1"), ran("all", FAIL, KASAN, "a:3x3", ("Write of size 4",)))
    assert found(*tests) == [(Outcome.PASS, "p1"), (Outcome.FAIL, "all")]
    assert next(quiet(tests, "none", ("all",))).line == f"all, a:3x3: {KASAN}\nWrite of size 4"


@pytest.mark.parametrize(
    ("before", "outcome"),
    [
        (KASAN.replace("0x19a/0x2c0", "0x18b/0x2a0"), Outcome.INCONCLUSIVE),  # the same place in other code
        (KASAN.replace("free_nested", "vmx_vcpu_free"), Outcome.FAIL),
    ],
)
def test_what_comes_without_the_series_too_hides_what_it_would_do(before, outcome):
    assert found(ran("none", FAIL, before), ran("p1", FAIL, KASAN), ran("all")) == [
        (outcome, "p1"),
        (Outcome.PASS, "all"),
    ]


def test_a_variant_that_did_not_run_has_not_passed():
    assert found(ran("none"), ran("p1", SKIP, "the emulator ended")) == [
        (Outcome.INCONCLUSIVE, "p1"),
        (Outcome.INCONCLUSIVE, "all"),
    ]
