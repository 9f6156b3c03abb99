"""The shipped claims against records as they would come: true ones pass, and each kind of fault is caught by name."""

from dataclasses import replace

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.cells.matrix import matrix
from kvmharness.claims import evaluate, parse_claims
from kvmharness.patches.series import load
from kvmharness.results.record import CellError, OracleView, Probes
from kvmharness.results.verdict import Outcome
from tests.builders import BOTH, NONE, P1, P2, record

SERIES = load("fast-cr3-switch")
CLAIMS = parse_claims(SERIES.claims, SERIES.claims_path)
CELLS = tuple(cell for cell in matrix() if not cell.invept_every and not cell.pcid)
OWN = parse_claims(
    [
        {"name": name, "text": name, "metric": metric, "check": "exactly", "value": 0, "per": "total"}
        for name, metric in (
            ("no-stale-translation", "probe_failures"),
            ("every-cell-ran", "errors"),
            ("kernel-log-silent", "dmesg"),
        )
    ]
)
ALL = (*CLAIMS, *OWN)
A33 = Cell(Setup.NO_EPT, 3, 3)
A11 = Cell(Setup.NO_EPT, 1, 1)


def outcomes(claims, run):
    return {answer.name: answer.outcome for answer in evaluate(claims, run)}


def failing(run, claims=ALL):
    return {name for name, outcome in outcomes(claims, run).items() if outcome is Outcome.FAIL}


def altered(run, change, **where):
    """The record with some results changed: those whose fields are as said."""

    def fits(result):
        return all(getattr(result, key) == value for key, value in where.items())

    return replace(run, results=tuple(change(r) if fits(r) else r for r in run.results))


def with_count(name, value):
    return lambda result: replace(result, counts={**result.counts, name: value})


@pytest.fixture(scope="module")
def true_run():
    return record(CELLS)


def test_the_true_series_passes_every_claim_that_its_cells_can_judge(true_run):
    answers = outcomes(CLAIMS, true_run)
    assert {name for name, outcome in answers.items() if outcome is not Outcome.PASS} == set()


def test_without_ept_in_l0_the_labels_change_and_the_controls_hold():
    cells = [cell for cell in CELLS if cell.setup in (Setup.NO_EPT, Setup.L1_ALONE)]
    answers = outcomes(CLAIMS, record(cells, l0_ept=False))
    assert answers["controls-load-the-same"] is Outcome.PASS
    assert answers["p1-saves-both-loads-without-ept-for-l2"] is Outcome.SKIPPED
    assert answers["p1-saves-time"] is Outcome.SKIPPED
    assert Outcome.FAIL not in answers.values()
    assert Outcome.INCONCLUSIVE not in answers.values()


def test_a_parameter_that_switches_ept_off_makes_it_set_up_e():
    off = replace(A33, params=(("kvm_intel.ept", "N"),))
    answer = {a.name: a for a in evaluate(CLAIMS, record([off], l0_ept=True))}["controls-load-the-same"]
    assert answer.cells == ("e:" + off.id.removeprefix("a:"),)


def test_a_series_that_does_nothing():
    run = record(CELLS)
    for variant in (P1, P2, BOTH):
        pristine = {r.key: r for r in run.results if r.variant == NONE}
        run = altered(
            run,
            lambda r, pristine=pristine: replace(r, counts=pristine[r.key].counts, samples=pristine[r.key].samples),
            variant=variant,
        )
    assert failing(run) == {
        "root-loads-equal-oracle",
        "p1-leaves-no-load-without-ept-for-l2",
        "p1-leaves-no-load-of-l1",
        "p2-leaves-no-load-of-l2",
        "p2-halves-loads-of-l2",
        "p1-saves-time",
        "p2-saves-time",
    }


def test_a_variant_in_which_every_switch_misses(true_run):
    run = altered(true_run, lambda r: with_count("kvm_mmu_load", 2 * r.round_trips)(r), variant=P1)
    assert {"root-loads-equal-oracle", "few-roots-never-load", "controls-load-the-same"} <= failing(run)


def test_a_reference_that_is_made_too_slow(true_run):
    """Comparing the pgd of direct roots without storing it: the series looks better than it is."""
    run = altered(true_run, lambda r: with_count("kvm_mmu_load", 2 * r.round_trips)(r), variant=NONE)
    assert {"root-loads-equal-oracle", "few-roots-never-load"} <= failing(run)


def test_a_load_too_many_is_seen(true_run):
    loads = next(r for r in true_run.results if r.id == A11.id).counts["kvm_mmu_load"]
    run = altered(true_run, with_count("kvm_mmu_load", loads + 1), id=A11.id, variant=BOTH, turn=1)
    answer = {a.name: a for a in evaluate(CLAIMS, run)}["root-loads-equal-oracle"]
    assert answer.outcome is Outcome.FAIL
    assert answer.cells == ("a:1x1",)
    assert answer.figures == ("a:1x1 both: loads 1, in 400 round trips, predicted 0",)


def test_a_stale_translation(true_run):
    run = altered(true_run, lambda r: replace(r, probes=Probes(800, 3)), id="c:3/ABAB", variant=P1)
    assert failing(run) == {"no-stale-translation"}
    run = altered(run, lambda r: replace(r, error=CellError("ProbeError", "iteration 7")), id="c:3/ABAB", variant=P1)
    assert failing(run) == {"no-stale-translation", "every-cell-ran"}


def test_a_probe_that_was_never_read_proves_nothing(true_run):
    run = altered(true_run, lambda r: replace(r, probes=Probes(0, 0)), variant=P1)
    assert outcomes(ALL, run)["no-stale-translation"] is Outcome.INCONCLUSIVE


def test_a_silent_kernel_is_claimed_per_cell_and_in_between(true_run):
    warn = ("WARNING: CPU: 0 PID: 1 at arch/x86/kvm/mmu/mmu.c:1",)
    assert failing(altered(true_run, lambda r: replace(r, dmesg=warn), id=A11.id)) == {"kernel-log-silent"}
    assert failing(replace(true_run, dmesg=warn)) == {"kernel-log-silent"}
    usual = ("kvm: loading out-of-tree module taints kernel.", "SVM: kvm: Nested Paging enabled")
    assert failing(replace(true_run, dmesg=usual)) == set()
    assert failing(replace(true_run, dmesg=(*usual, *warn))) == {"kernel-log-silent"}
    empty = replace(true_run, results=(), dmesg=warn)
    assert failing(empty) == {"kernel-log-silent"}


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        (lambda r: replace(r, exits={**r.exits, "VMWRITE": 2 * r.exits["VMWRITE"]}), "exits-unchanged"),
        (lambda r: replace(r, exits={**r.exits, "TRIPLE_FAULT": r.round_trips}), "exits-unchanged"),
        (lambda r: replace(r, stats={**r.stats, "nested_run": 1}), "nested-runs-unchanged"),
        (lambda r: replace(r, stats={**r.stats, "tlb_flush": r.round_trips}), "tlb-flushes-unchanged"),
        (lambda r: with_count("kvm_mmu_new_pgd", 3 * r.round_trips)(r), "switches-unchanged"),
        (lambda r: replace(r, samples=tuple(int(s * 1.05) for s in r.samples)), "controls-take-the-same-time"),
    ],
)
def test_each_invariant_can_fail(true_run, change, claim):
    assert failing(altered(true_run, change, id=A11.id, variant=BOTH)) == {claim}


def test_timer_interrupts_do_not_matter(true_run):
    run = altered(true_run, lambda r: replace(r, exits={**r.exits, "EXTERNAL_INTERRUPT": r.round_trips}), variant=BOTH)
    assert failing(run) == set()


def test_what_was_not_counted_is_inconclusive_with_the_reason(true_run):
    run = altered(
        true_run,
        lambda r: replace(r, counts={}, missing={"kvm_mmu_load": "no kprobe PMU"}),
    )
    answer = {a.name: a for a in evaluate(CLAIMS, run)}["root-loads-equal-oracle"]
    assert answer.outcome is Outcome.INCONCLUSIVE
    assert "no kprobe PMU" in answer.figures[0]


def undescribed(run, *names):
    """The record of a series that changes in some variants what the oracle describes."""
    run = altered(run, lambda r: replace(r, predicted=None) if r.variant in names else r)
    view = OracleView("root-cache", None, "f() is another one")
    variants = [replace(v, oracle=view) if v.name in names else v for v in run.variants]
    return replace(run, variants=tuple(variants))


ORACLE = {"name": "oracle", "text": "t", "metric": "loads", "check": "equal-to-oracle"}
WHY = "the oracle root-cache does not describe it: f() is another one"


@pytest.mark.parametrize(
    ("more", "names", "outcome", "figures"),
    [
        ({}, (P1,), Outcome.INCONCLUSIVE, (f"p1: {WHY}",)),
        ({"where-described": True}, (P1,), Outcome.PASS, (f"p1: {WHY}", "a:3x3 none: loads 800, ")),
        ({"where-described": True}, (NONE, P1, P2, BOTH), Outcome.SKIPPED, (f"none: {WHY}", f"p1: {WHY}")),
    ],
)
def test_a_variant_that_the_oracle_does_not_describe(more, names, outcome, figures):
    run = undescribed(record([A33]), *names)
    (answer,) = evaluate(parse_claims([ORACLE | more]), run)
    assert answer.outcome is outcome
    assert all(shown.startswith(wanted) for shown, wanted in zip(answer.figures, figures, strict=False))


def test_what_is_described_must_still_be_equal():
    run = altered(undescribed(record([A33]), P1), with_count("kvm_mmu_load", 7), variant=BOTH)
    (answer,) = evaluate(parse_claims([ORACLE | {"where-described": True}]), run)
    assert answer.outcome is Outcome.FAIL


def test_a_described_variant_without_a_prediction_is_inconclusive():
    run = altered(record([A33]), lambda r: replace(r, predicted=None), variant=P1)
    (answer,) = evaluate(parse_claims([ORACLE | {"where-described": True}]), run)
    assert answer.outcome is Outcome.INCONCLUSIVE
    assert answer.figures == ("a:3x3 p1: the oracle made no prediction",)


def test_a_cell_that_failed_spoils_its_claims_and_is_a_failure_itself(true_run):
    error = CellError("GuestShutdown", "triple fault")
    run = altered(true_run, lambda r: replace(r, error=error), id=A33.id, variant=P1)
    answers = outcomes(ALL, run)
    assert answers["every-cell-ran"] is Outcome.FAIL
    assert answers["p1-saves-time"] is Outcome.INCONCLUSIVE
    assert answers["root-loads-equal-oracle"] is Outcome.INCONCLUSIVE


def test_skipped_cells_skip_their_claims():
    run = altered(record([A33]), lambda r: replace(r, skipped="nested: no VMX"))
    answer = {a.name: a for a in evaluate(CLAIMS, run)}["p1-saves-time"]
    assert (answer.outcome, answer.figures) == (Outcome.SKIPPED, ("nested: no VMX",))


def test_variants_that_were_not_run_skip_their_claims():
    answers = outcomes(CLAIMS, record([A33], variants=(NONE, BOTH)))
    assert answers["p1-saves-time"] is Outcome.PASS
    assert answers["p2-saves-loads-of-l2"] is Outcome.SKIPPED


TIME = parse_claims(
    [
        {"name": "faster", "text": "t", "metric": "time", "check": "lower", "at-least": 0.05, "cells": "a:3x3"},
        {"name": "same", "text": "t", "metric": "time", "check": "unchanged", "tolerance": 0.02, "cells": "a:1x1"},
    ]
)


def test_time_on_a_noisy_host():
    run = record([A33, A11], variants=(NONE, BOTH), turns=6, emulated=False, noise=0.01)
    assert outcomes(TIME, run) == {"faster": Outcome.PASS, "same": Outcome.PASS}
    noisy = record([A33, A11], variants=(NONE, BOTH), turns=2, emulated=False, noise=0.9)
    assert Outcome.PASS not in outcomes(TIME, noisy).values()
    assert Outcome.INCONCLUSIVE in outcomes(TIME, noisy).values()


def test_faster_but_less_than_claimed():
    run = record([A33, A11], variants=(NONE, BOTH))
    barely = altered(run, lambda r: replace(r, samples=tuple(s * 24 // 25 for s in r.samples)), variant=BOTH, id=A33.id)
    (strict,) = parse_claims(
        [{"name": "f", "text": "t", "metric": "time", "check": "lower", "at-least": 0.5, "cells": "a:3x3"}]
    )
    assert outcomes([strict], barely) == {"f": Outcome.FAIL}


def test_at_most_and_lower_for_counts():
    run = record([A33], variants=(NONE, BOTH))
    claims = parse_claims(
        [
            {"name": "most", "text": "t", "metric": "exits", "check": "at-most", "value": 3},
            {"name": "fewer", "text": "t", "metric": "exits", "check": "at-most", "value": "2.9"},
            {"name": "lower", "text": "t", "metric": "loads", "check": "lower"},
            {"name": "not", "text": "t", "metric": "exits", "check": "lower"},
            {"name": "reason", "text": "t", "metric": "exits.VMCALL", "check": "exactly", "value": 1},
            {"name": "stat", "text": "t", "metric": "stat.nested_run", "check": "exactly", "value": 1},
        ]
    )
    assert outcomes(claims, run) == {
        "most": Outcome.PASS,
        "fewer": Outcome.FAIL,
        "lower": Outcome.PASS,
        "not": Outcome.FAIL,
        "reason": Outcome.PASS,
        "stat": Outcome.PASS,
    }


NOT_HIGHER = {"name": "n", "text": "t", "metric": "loads", "check": "not-higher", "compare": "p1->both"}


@pytest.mark.parametrize(
    ("more", "loads", "outcome"),
    [
        ({}, 0, Outcome.PASS),
        ({}, 1, Outcome.FAIL),
        ({"tolerance": "1/400"}, 1, Outcome.PASS),
        ({"tolerance": "1/400"}, 2, Outcome.FAIL),
    ],
)
def test_no_higher_than_another_variant(true_run, more, loads, outcome):
    """Patch 1 alone has no loads in this cell."""
    run = altered(true_run, with_count("kvm_mmu_load", loads), id=A33.id, variant=BOTH)
    (answer,) = evaluate(parse_claims([NOT_HIGHER | {"cells": "a:3x3"} | more]), run)
    assert answer.outcome is outcome
    assert answer.variants == (BOTH,)


@pytest.mark.parametrize(("slower", "outcome"), [(0.9, Outcome.PASS), (1.01, Outcome.PASS), (1.03, Outcome.FAIL)])
def test_no_longer_than_another_variant(true_run, slower, outcome):
    run = altered(true_run, lambda r: replace(r, samples=tuple(int(s * slower) for s in r.samples)), variant=BOTH)
    run = replace(run, results=tuple(r for r in run.results if r.id == A11.id))
    claims = parse_claims([NOT_HIGHER | {"metric": "time", "tolerance": 0.02}])
    assert outcomes(claims, run) == {"n": outcome}


def test_a_pattern_reaches_what_is_judged_and_a_name_whatever_there_is(true_run):
    """Patch 2 alone loads twice as often as the claim allows; nobody bisects into it."""
    run = altered(true_run, with_count("kvm_mmu_load", 800), id=A33.id, variant=P2)
    table = {"name": "n", "text": "t", "metric": "loads", "check": "at-most", "value": "3/2", "cells": "a:3x3"}
    judged = (P1, BOTH)
    assert [a.outcome for a in evaluate(parse_claims([table | {"variants": "*"}]), run, judged)] == [Outcome.PASS]
    assert [a.outcome for a in evaluate(parse_claims([table | {"variants": "p2"}]), run, judged)] == [Outcome.FAIL]
