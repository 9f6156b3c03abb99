"""What maintainers ask for: a thing that was not done is never said to have passed, and says why."""

from dataclasses import replace

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.claims.checklist import checklist
from kvmharness.claims.untested import untested
from kvmharness.results.tests import LITMUS, SELFTESTS, UNIT_TESTS, TestResult
from kvmharness.results.verdict import ClaimResult, Outcome
from tests import builders

SELF = "KVM selftests, with and without"
TESTS = tuple(
    TestResult(SELFTESTS, name, variant, params, outcome)
    for variant in ("none", "p1")
    for params in ({}, {"kvm.tdp_mmu": "N"})
    for name, outcome in (("smm_test", "pass"), ("debug_regs", "fail"), ("amx_test", "skip"))
)


def rows(answers=(), tests=TESTS, took=(), not_done=(), host="vmx:skylake"):
    run = replace(builders.record([Cell(Setup.NO_EPT, 3, 3)], ("none", "p1")), tests=tests)
    found = checklist(answers, {host: run}, dict(took), dict(not_done))
    return {row.what: row for row in found}


def answer(name, outcome, *figures):
    return ClaimResult(name, "", outcome, figures)


def test_what_was_done_says_what_the_whole_series_gave_and_how_long_it_took():
    row = rows([answer("selftests-hold", Outcome.PASS, "6 tests")], took={SELFTESTS: 61.4})[SELF]
    assert (row.done, row.result, row.because) == ("vmx:skylake: 1 passed, 1 failed, 1 skipped, 61 s", "PASS", "")


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.INCONCLUSIVE])
def test_the_result_is_the_claims(outcome):
    assert rows([answer("selftests-hold", outcome, "line")])[SELF].result == outcome.value


def test_what_was_not_done_has_no_result_and_a_reason():
    skipped = answer("selftests-hold", Outcome.SKIPPED, "not asked for: --thorough runs them")
    row = rows([skipped])[SELF]
    assert (row.done, row.result, row.because) == ("", "", "not asked for: --thorough runs them")
    assert rows([skipped], not_done={SELFTESTS: "there is no tree"})[SELF].because == "there is no tree"
    assert rows([], not_done={})[SELF].because == "nothing ran that answers it"


def test_parameters_that_were_varied_are_named():
    what = "TDP off, and other parameters that matter"
    assert rows()[what].done == "kvm.tdp_mmu=N"
    assert rows(tests=(TestResult(LITMUS, "wp", "none"),))[what].because == "none was varied"


def test_a_vendor_that_was_not_there_is_named():
    row = rows()["Both vendors"]
    assert (row.done, row.result) == ("vmx:skylake", "partly")
    assert "kvm_amd" in row.because


def test_an_emulated_host_is_no_hardware():
    assert rows()["On hardware"].because == "emulated hosts only"


@pytest.mark.parametrize(
    ("batteries", "said"),
    [
        (
            (),
            "Only VMs with one vCPU, in a steady state; no litmus tests, no selftests of the kernel and no "
            "kvm-unit-tests.",
        ),
        ((LITMUS,), "Several vCPUs only in turn; no selftests of the kernel and no kvm-unit-tests."),
        ((LITMUS, SELFTESTS), "No kvm-unit-tests."),
    ],
)
def test_what_did_not_run_is_said(batteries, said):
    run = replace(builders.record([], ("none",)), tests=tuple(TestResult(each, "x", "none") for each in batteries))
    assert said in untested([run], {})


def test_where_everything_ran_nothing_is_said_of_it():
    every = (LITMUS, SELFTESTS, UNIT_TESTS)
    run = replace(builders.record([], ("none",)), tests=tuple(TestResult(each, "x", "none") for each in every))
    assert not [line for line in untested([run], {}) if "tests" in line]


@pytest.mark.parametrize("claim", ["no-more-switches", "loads-as-predicted", "a-claim-of-the-series"])
def test_whatever_fails_of_the_cells_their_row_says_so(claim):
    row = rows([answer("results-present", Outcome.PASS, "1 cell"), answer(claim, Outcome.FAIL, "line")])
    assert row["VMs run: measured cells"].result == "FAIL"


def test_a_claim_about_something_else_is_none_about_the_cells():
    found = rows([answer("results-present", Outcome.PASS, "1 cell"), answer("selftests-hold", Outcome.FAIL, "line")])
    assert (found["VMs run: measured cells"].result, found[SELF].result) == ("PASS", "FAIL")
