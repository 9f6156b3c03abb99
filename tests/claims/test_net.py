"""The safety net against records as they would come: each kind of harm is caught by its row, and by no other."""

from dataclasses import replace

import pytest

from kvmharness.cells.cell import Cell, Order, Setup
from kvmharness.claims import ClaimError
from kvmharness.claims.evaluate import Results
from kvmharness.claims.net import ROWS, Net
from kvmharness.claims.waivers import Waived, parse_waivers
from kvmharness.results.incidents import Leftover
from kvmharness.results.record import CellError, Prediction, Probes
from kvmharness.results.tests import BUILDS, DEBUG_KERNEL, SELFTESTS, UNIT_TESTS, TestResult
from kvmharness.results.verdict import Outcome
from tests.builders import NONE, record

A33, A11 = Cell(Setup.NO_EPT, 3, 3), Cell(Setup.NO_EPT, 1, 1)
CELLS = (A33, A11, Cell(Setup.EPTPS, 1, eptps=3, order=Order.ABAB))
P1 = "p1"


def same(cells=CELLS, **options):
    """A series without effect: the variant's figures are those of the kernel without it."""
    run = record(cells, (NONE, P1), **options)
    twins = {(r.key, r.turn): r for r in run.results if r.variant == NONE}
    results = tuple(replace(twins[r.key, r.turn], variant=r.variant) for r in run.results)
    leftovers = tuple(Leftover(name, 1, 20, {"pages": 4096}) for name in (NONE, P1))
    others = ((DEBUG_KERNEL, ""), ("litmus", "wp"), (BUILDS, "W=1"), (SELFTESTS, "smm_test"), (UNIT_TESTS, "vmx"))
    tests = tuple(TestResult(battery, test, name) for battery, test in others for name in (NONE, P1))
    return replace(run, results=results, leftovers=leftovers, tests=tests)


def harmed(change, run=None, variant=P1, cell=A33):
    run = run or same()
    fits = {(variant, cell.id)}
    return replace(run, results=tuple(change(r) if (r.variant, r.id) in fits else r for r in run.results))


def net(run, waivers=()):
    return Net(Results(run, (NONE, P1)), NONE, Waived(waivers))


def outcomes(run, outcome=Outcome.FAIL, waivers=()):
    return {answer.name for answer in net(run, waivers).answers() if answer.outcome is outcome}


def counted(name, more):
    return lambda r: replace(r, counts={**r.counts, name: r.counts[name] + int(more * r.round_trips)})


def statistic(name, more):
    return lambda r: replace(r, stats={**r.stats, name: r.stats.get(name, 0) + int(more * r.round_trips)})


def slower(share):
    return lambda r: replace(r, samples=tuple(round(s * (1 + share)) for s in r.samples))


def failed(name):
    return lambda r: replace(r, error=CellError(name, "why"), exits={}, counts={}, stats={}, samples=())


def test_a_series_without_effect_passes_and_nothing_is_said_of_it():
    thrown = net(same())
    assert {answer.outcome for answer in thrown.answers()} == {Outcome.PASS}
    assert thrown.effects == []


@pytest.mark.parametrize(
    ("harm", "row"),
    [
        (failed("GuestHungError"), "every-cell-ran"),
        (lambda r: replace(r, skipped="no EPT"), "every-cell-ran"),
        (failed("StaleTranslation"), "no-stale-reads"),
        (lambda r: replace(r, probes=Probes(800, 1)), "no-stale-reads"),
        (lambda r: replace(r, dmesg=("WARNING: CPU: 0",)), "no-new-messages"),
        (lambda r: slower(0.2)(counted("kvm_mmu_load", 1)(r)), "no-more-loads"),
        (counted("kvm_mmu_new_pgd", 1), "no-more-switches"),
        (lambda r: slower(0.5)(replace(r, exits={**r.exits, "CPUID": r.round_trips})), "no-more-exits"),
        (statistic("tlb_flush", 1), "no-more-flushes"),
        (statistic("remote_tlb_flush", 1), "no-more-flushes"),
        (statistic("pf_guest", 1), "no-more-mmu-work"),
        (statistic("mmu_unsync", 1), "no-more-mmu-work"),
        (failed("PollutedError"), "no-more-mmu-work"),
        # Fewer than the model says is no improvement but a root that should have gone.
        (lambda r: replace(r, predicted=Prediction(r.counts["kvm_mmu_load"] + 1, 0)), "loads-as-predicted"),
        (slower(0.015), "no-more-time"),
    ],
)
def test_each_harm_is_told_by_its_row_and_by_no_other(harm, row):
    run = harmed(harm)
    assert outcomes(run) == {row}
    (answer,) = [answer for answer in net(run).answers() if answer.name == row]
    assert answer.variants == (P1,)


def test_memory_that_is_left_behind_is_a_leak():
    run = same()
    assert outcomes(replace(run, leftovers=(run.leftovers[0], Leftover(P1, 1, 20, {"pages": 20 * 4096})))) == {
        "no-leak"
    }


@pytest.mark.parametrize(
    "change",
    [
        slower(0.009),
        statistic("pf_guest", 0.04),
        statistic("exits", 5),
        lambda r: replace(r, exits={**r.exits, "EXTERNAL_INTERRUPT": 50}),
        lambda r: replace(r, dmesg=("kvm: loading out-of-tree module taints kernel.",)),
    ],
)
def test_what_happens_by_itself_is_no_harm(change):
    assert outcomes(harmed(change)) == set()


def test_one_turn_that_is_as_before_is_enough():
    """What the series does, it does in every turn."""
    run = same()
    run = replace(run, results=tuple(counted("kvm_mmu_load", 1)(r) if r.turn == 1 else r for r in run.results))
    assert outcomes(run) == set()


@pytest.mark.parametrize(
    ("harm", "what", "before", "after"),
    [
        (counted("kvm_mmu_load", -1), "root loads", 2, 1),
        (lambda r: replace(r, exits={**r.exits, "VMWRITE": 0}), "exits (VMWRITE)", 1, 0),
        (slower(-0.1), "time", None, None),
    ],
)
def test_what_gets_better_is_an_effect_and_no_failure(harm, what, before, after):
    run = harmed(lambda r: replace(harm(r), predicted=None))
    thrown = net(run)
    assert {answer.name for answer in thrown.answers() if answer.outcome is Outcome.FAIL} == set()
    (effect,) = thrown.effects
    assert (effect.what, effect.cell, effect.variant) == (what, "a:3x3", P1)
    if before is not None:
        assert (effect.before, effect.after) == (before, after)
    assert 0 < effect.share <= 1


@pytest.mark.parametrize("name", ["GuestHungError", "StaleTranslation", "PollutedError"])
def test_what_fails_without_the_series_too_decides_nothing(name):
    run = harmed(failed(name), harmed(failed(name)), variant=NONE)
    assert outcomes(run) == set()
    assert len(outcomes(run, Outcome.INCONCLUSIVE)) == 1


def test_a_model_that_is_wrong_without_the_series_proves_nothing():
    def off(result):
        return replace(result, predicted=Prediction(result.counts["kvm_mmu_load"] + 1, 0))

    run = harmed(off, harmed(off), variant=NONE)
    assert outcomes(run) == set()
    assert outcomes(run, Outcome.INCONCLUSIVE) == {"loads-as-predicted"}


def test_a_kernel_that_the_model_does_not_describe_is_left_to_the_comparison():
    run = same()
    run = replace(run, results=tuple(replace(r, predicted=None) if r.variant == P1 else r for r in run.results))
    assert outcomes(run, Outcome.SKIPPED) == {"loads-as-predicted"}
    assert outcomes(run) == set()


def test_a_result_that_is_missing_decides_nothing():
    run = same()
    run = replace(run, results=tuple(r for r in run.results if (r.id, r.variant, r.turn) != (A11.id, P1, 1)))
    assert outcomes(run, Outcome.INCONCLUSIVE) == {"results-present"}


def test_numbers_and_addresses_do_not_make_a_message_new():
    old = ("WARNING: CPU: 0 PID: 71 at x86.c:1", "RAX: 00000000deadbeef RBX: ffff8881000012c0", " ? old_frame+0x1/0x2")
    new = ("WARNING: CPU: 1 PID: 9 at x86.c:1", "RAX: 0000000000000000 RBX: ffff888100001230", " ? other_frame+0x1/0x2")
    run = harmed(lambda r: replace(r, dmesg=new), harmed(lambda r: replace(r, dmesg=old), variant=NONE))
    assert outcomes(run) == set()


def test_on_a_real_host_time_is_judged_by_the_statistics():
    quiet = same(emulated=False, noise=0.002, turns=4)
    assert outcomes(quiet) == set()
    assert outcomes(harmed(slower(0.2), quiet)) == {"no-more-time"}
    once = same(emulated=False, noise=0.002, turns=1)
    assert outcomes(once, Outcome.INCONCLUSIVE) == {"no-more-time"}


def waiver(**more):
    table = {"row": "no-more-time", "cells": "a:3x3", "reason": "It checks more."} | more
    return parse_waivers([table], [row.name for row in ROWS], "x.toml")


def test_a_waiver_lets_pass_what_it_names_and_is_told():
    run = harmed(slower(0.015))
    asked = Waived(waiver())
    answers = {a.name: a for a in Net(Results(run, (NONE, P1)), NONE, asked).answers()}
    assert answers["no-more-time"].outcome is Outcome.PASS
    assert answers["no-more-time"].figures[0].startswith("waived: a:3x3 p1: time ")
    assert asked.lines()[0].startswith("no-more-time in a:3x3: It checks more. (1 waived; first: a:3x3 p1: time ")


@pytest.mark.parametrize("other", [{"cells": "a:1x1"}, {"row": "no-more-exits"}, {"variants": "both"}])
def test_a_waiver_lets_nothing_else_pass(other):
    assert outcomes(harmed(slower(0.015)), waivers=waiver(**other)) == {"no-more-time"}


def test_a_waiver_that_was_not_needed_is_told_too():
    asked = Waived(waiver())
    Net(Results(same(), (NONE, P1)), NONE, asked).answers()
    assert asked.lines() == ("no-more-time in a:3x3: It checks more. (nothing would have failed)",)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"row": "no-more-fun"}, "row = 'no-more-fun' is not in the vocabulary"),
        ({"reason": " "}, "reason = ' ': a text is expected"),
        ({"cells": "a:0x0"}, "x.toml, waiver 1"),
        ({"because": "x"}, "unknown key 'because'"),
    ],
)
def test_a_waiver_that_says_too_little_is_refused(more, said):
    with pytest.raises(ClaimError, match=said):
        waiver(**more)


@pytest.mark.parametrize(
    ("battery", "row"),
    [(SELFTESTS, "selftests-hold"), (UNIT_TESTS, "unit-tests-hold"), (BUILDS, "builds-cleanly")],
)
def test_a_new_failure_of_a_suite_is_told_by_its_row(battery, row):
    run = same()
    broken = [
        replace(test, outcome="fail", why="line 3") if (test.battery, test.variant) == (battery, P1) else test
        for test in run.tests
    ]
    assert outcomes(replace(run, tests=tuple(broken))) == {row}
