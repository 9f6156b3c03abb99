"""What litmus tests say about a series: a test that holds without it must hold with it, at the same cost."""

import pytest

from kvmharness.claims.litmus import failures, more_work
from kvmharness.results.tests import FAIL, PASS, SKIP, TestResult
from kvmharness.results.verdict import Outcome


def result(variant, outcome=PASS, why="", **counts):
    return TestResult("litmus", "wp", variant, {"kvm.tdp_mmu": "N"}, outcome, why, ("row 1", "row 2"), counts)


def outcomes(about, *tests):
    return [(each.outcome, each.line) for each in about(tests, "none", ["both"])]


def test_what_holds_either_way_is_fine():
    assert outcomes(failures, result("none"), result("both")) == [(Outcome.PASS, "")]


def test_a_test_that_fails_with_the_series_alone_fails_it_with_its_table():
    (found,) = outcomes(failures, result("none"), result("both", FAIL, "row 2, L1 read p0: d0"))
    assert found == (Outcome.FAIL, "wp/kvm.tdp_mmu=N both: row 2, L1 read p0: d0\nrow 1\nrow 2")


def test_one_that_fails_without_it_too_says_nothing_about_it():
    ((outcome, line),) = outcomes(failures, result("none", FAIL, "x"), result("both", FAIL, "y"))
    assert outcome is Outcome.INCONCLUSIVE
    assert line.endswith("y; none fails there too")


@pytest.mark.parametrize(("before", "found"), [(PASS, [Outcome.FAIL]), (SKIP, [])])
def test_a_series_must_not_take_away_what_a_test_needs(before, found):
    tests = result("none", before), result("both", SKIP, "this host does not offer PCID")
    assert [outcome for outcome, _ in outcomes(failures, *tests)] == found


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        (0, 2, Outcome.PASS),
        (0, 3, Outcome.FAIL),
        (100, 112, Outcome.PASS),
        (100, 113, Outcome.FAIL),
        (9, 0, Outcome.PASS),
    ],
)
def test_more_flushes_are_told(before, after, outcome):
    ((found, line),) = outcomes(more_work, result("none", tlb_flush=before), result("both", tlb_flush=after))
    assert found is outcome
    if outcome is Outcome.FAIL:
        assert line == f"wp/kvm.tdp_mmu=N both: TLB flushes {before} -> {after}"


def test_what_failed_is_not_counted():
    assert outcomes(more_work, result("none"), result("both", FAIL, "x", tlb_flush=99)) == []
