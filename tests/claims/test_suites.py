"""A suite's tests with and without a series: what is new, what is repaired, and what is the very same failure."""

import pytest

from kvmharness.claims.findings import answer
from kvmharness.claims.suites import held
from kvmharness.results.tests import FAIL, HANG, PANIC, PASS, SELFTESTS, SKIP, TestResult
from kvmharness.results.verdict import Outcome

NONE, P1 = "none", "p1"
LINE = "x86_64/debug_regs.c:117: run->exit_reason == KVM_EXIT_DEBUG"


def result(variant, outcome=PASS, why="", name="x86_64/smm_test", **more):
    return TestResult(SELFTESTS, name, variant, outcome=outcome, why=why, **more)


def judged(*tests, variants=(P1,)):
    return answer("selftests-hold", "", held(tests, NONE, variants), figures=["first"])


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((PASS, ""), (PASS, ""), Outcome.PASS),
        ((PASS, ""), (FAIL, LINE), Outcome.FAIL),
        ((PASS, ""), (HANG, "did not end within 10 s"), Outcome.FAIL),
        ((PASS, ""), (PANIC, "BUG: unable to handle page fault"), Outcome.FAIL),
        ((PASS, ""), (SKIP, "no nested VMX"), Outcome.FAIL),
        ((SKIP, "no nested VMX"), (SKIP, "no nested VMX"), Outcome.PASS),
        ((SKIP, "no nested VMX"), (FAIL, LINE), Outcome.FAIL),
        ((FAIL, LINE), (FAIL, LINE), Outcome.PASS),
        ((FAIL, LINE), (FAIL, LINE.replace("117", "118")), Outcome.FAIL),
        ((FAIL, LINE), (HANG, LINE), Outcome.FAIL),
        ((HANG, "did not end"), (HANG, "did not end"), Outcome.PASS),
        ((HANG, "did not end"), (FAIL, LINE), Outcome.INCONCLUSIVE),
        ((HANG, "did not end"), (PANIC, "BUG: bad thing"), Outcome.FAIL),
        ((FAIL, LINE), (PASS, ""), Outcome.PASS),
    ],
)
def test_only_the_very_same_failure_is_none(before, after, expected):
    assert judged(result(NONE, *before), result(P1, *after)).outcome is expected


def test_a_new_failure_is_told_with_what_was_there_without_and_with_its_output():
    found = judged(result(NONE), result(P1, FAIL, LINE, table=("a", "b")))
    assert found.variants == (P1,)
    assert found.cells == ("x86_64/smm_test",)
    assert found.figures == (f"x86_64/smm_test p1: fail: {LINE}; none: pass\na\nb",)


def test_what_fails_both_ways_and_what_is_repaired_is_told():
    found = judged(
        *(result(name, FAIL, LINE, "x86_64/debug_regs") for name in (NONE, P1)),
        result(NONE, FAIL, LINE, "repaired"),
        result(P1, name="repaired"),
    )
    assert found.outcome is Outcome.PASS
    assert found.figures == (
        "first",
        "p1: 1 pass, 0 skipped, 1 fail as they do without it, 1 repaired",
        f"x86_64/debug_regs: fail: {LINE}, with and without the series",
        f"repaired p1: repaired; none: fail: {LINE}",
    )


def test_a_line_that_a_program_no_longer_says_has_failed():
    lines = [result(name, name=f"vmx{line}") for name in (NONE, P1) for line in ("", ": a", ": b")]
    found = judged(*lines[:-1])
    assert found.outcome is Outcome.FAIL
    assert found.figures == ("vmx: b p1: no result; without the series it passes",)


def test_a_program_that_was_not_run_under_a_setting_is_nothing_to_judge():
    """As under a prefix, where only what differs is run under every setting."""
    params = {"kvm.tdp_mmu": "N"}
    found = judged(result(NONE), result(P1), result(NONE, params=params), result(NONE, name="other", params=params))
    assert found.outcome is Outcome.PASS


def test_what_a_program_that_broke_off_did_not_come_to_is_told_once():
    lines = [result(NONE, name=f"vmx: line {number}") for number in range(5)]
    found = judged(*lines, result(NONE, name="vmx"), result(P1, HANG, "10 s", name="vmx"))
    assert found.cells == ("vmx",)


def test_the_same_test_under_other_parameters_is_another_one():
    found = judged(result(NONE), result(P1), result(P1, FAIL, LINE, params={"kvm.tdp_mmu": "N"}))
    assert found.cells == ("x86_64/smm_test/kvm.tdp_mmu=N",)
    assert "none has no such test" in found.figures[0]


def test_a_variant_that_did_not_run_at_all_decides_nothing():
    found = judged(result(NONE), result(P1), variants=(P1, "p2"))
    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.figures == ("p2: none of 1 tests ran",)
