"""How many turns an effect takes: against a published table, and in simulated sessions whose truth is known."""

from dataclasses import replace
from math import inf, sqrt
from random import Random

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.results.noise import Outcome, judge_all
from kvmharness.results.power import _at_most, detectable, groups_of, reached, turns_needed
from tests import builders

EFFECT = 0.01


def session(random, turns, *, between, within, shift=1.0):
    """Turns of one cell, each with an offset of its own, and ten samples around it that can only be longer."""
    made = []
    for _ in range(turns):
        own = 1000 * shift * (1 + random.gauss(0, between))
        made.append([own * (1 + abs(random.gauss(0, within))) for _ in range(10)])
    return made


def many(deviation, turns=5001):
    """Turns whose medians have this deviation, as exactly as can be: so many that quantiles are the normal ones."""
    random = Random(1)
    return [[1000 * (1 + random.gauss(0, deviation))] for _ in range(turns)]


def test_the_size_of_a_sample_is_that_of_the_textbook():
    # Two-sided at 5 %, power 95 %, normal: z are 1.960 and 1.645; the latter for a median, times sqrt(pi / 2).
    assert detectable([many(0.01)], 1) == pytest.approx((1.960 + 1.2533 * 1.645) * 0.01 * sqrt(2), rel=0.03)


def test_four_times_as_many_turns_show_half_the_effect():
    groups = [many(0.01, 30)]
    assert detectable(groups, 120) == pytest.approx(detectable(groups, 30) / 2)
    assert detectable(groups, int(turns_needed(groups, EFFECT))) <= EFFECT
    assert detectable(groups, int(turns_needed(groups, EFFECT)) - 1) > EFFECT


def test_more_cells_ask_for_more_as_they_are_corrected_for():
    assert detectable([many(0.01)] * 40, 1) > 1.2 * detectable([many(0.01)], 1)


def test_the_noisiest_cell_decides():
    assert detectable([many(0.001, 50), many(0.02, 50)], 10) > detectable([many(0.01, 50)] * 2, 10)


@pytest.mark.parametrize("groups", [[], [[[5.0, 6.0]]], [[[5.0]], [[6.0]]]])
def test_what_was_not_run_twice_shows_nothing(groups):
    assert detectable(groups, 10) == inf
    assert turns_needed(groups, EFFECT) == inf


@pytest.mark.parametrize("freedom", [1, 5, 19, 100, 1000])
def test_the_limit_of_a_deviation_agrees_with_scipy(freedom):
    chi2 = pytest.importorskip("scipy.stats").chi2
    assert _at_most(freedom) == pytest.approx(sqrt(freedom / chi2.ppf(0.2, freedom)), rel=0.1 if freedom == 1 else 0.01)


@pytest.mark.parametrize(
    ("between", "within", "cells"), [(0.01, 0.0001, 1), (0.0001, 0.05, 1), (0.01, 0.02, 1), (0.01, 0.02, 3)]
)
def test_an_effect_of_the_size_is_found_in_95_of_100_sessions(between, within, cells):
    """A pilot, as many turns as it says, and again; then another session with the effect in one of its cells."""
    found = false = 0
    for seed in range(100):
        random = Random(seed)
        a = [session(random, 20, between=between, within=within) for _ in range(cells)]
        while detectable(a, len(a[0])) > EFFECT:
            more = int(turns_needed(a, EFFECT)) - len(a[0])
            a = [runs + session(random, more, between=between, within=within) for runs in a]
        shifts = [1 + EFFECT, *[1.0] * (cells - 1)]
        b = [session(random, len(a[0]), between=between, within=within, shift=shift) for shift in shifts]
        first, *others = judge_all(dict(enumerate(zip(a, b, strict=True))), tolerance=EFFECT / 2).values()
        found += first.outcome is Outcome.HIGHER
        false += any(other.outcome in (Outcome.LOWER, Outcome.HIGHER) for other in others)
    assert found >= 95
    assert false <= 5


def test_a_record_is_read_cell_by_cell_and_turn_by_turn():
    cells = [Cell(Setup.L1_ALONE, n, guest_cr3s=0) for n in (2, 5)]
    record = builders.record(cells, ("host",), turns=3, noise=0.001)
    assert [len(runs) for runs in groups_of(record)] == [3, 3]
    assert groups_of(record)[0][1] == record.results[2].ticks_per_round_trip
    assert reached(record, 0.5)
    assert not reached(record, 1e-9)
    assert not reached(replace(record, results=()), 0.5)
    assert not reached(replace(record, results=record.results[:2]), 0.5)
