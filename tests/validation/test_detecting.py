"""Turns until an effect would be seen: how many are run, what is said, and when it is given up."""

from dataclasses import replace
from random import Random

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.results.power import Detect, reached
from kvmharness.results.record import When
from kvmharness.validation.detecting import PILOT, until_seen
from tests import builders


class Session:
    """A run whose turns take two seconds each, with this noise between them.

    Attributes:
        asked: how many more turns were asked for, each time.
        said: what was said.
    """

    def __init__(self, deviation, turns=PILOT):
        self._random, self._deviation = Random(7), deviation
        self._record = builders.record((), ("host",))
        self.asked, self.said = [], []
        self._run(turns)

    def _run(self, turns):
        first = len(self._record.results)
        cell = Cell(Setup.L1_ALONE, 2, guest_cr3s=0)
        made = []
        for turn in range(first, first + turns):
            centre = 24_000 * (1 + self._random.gauss(0, self._deviation))
            made.append(replace(builders.result(cell, "host", turn=turn), samples=(round(centre),) * 3))
        results = (*self._record.results, *made)
        self._record = replace(self._record, results=results, when=When("", 2.0 * len(results)))

    def run(self, turns):
        self.asked.append(turns)
        self._run(turns)

    def until(self, effect, within_s, **more):
        detect = Detect(effect, within_s)
        return until_seen(detect, lambda: self._record, self.run, self.said.append, **more), self._record


def test_the_pilot_is_enough_for_a_large_effect():
    session = Session(0.002)
    note, record = session.until(0.05, 600)
    assert (session.asked, session.said) == ([], [])
    assert note == (
        "a change of time by 5.00% would be seen with 95% power between this run of 20 turns and another like it; "
        "compare them with --tolerance 2.50%"
    )
    assert reached(record, 0.05)


def test_a_small_one_takes_the_turns_that_were_announced():
    session = Session(0.01)
    note, record = session.until(0.01, 600)
    assert (
        f"it takes {PILOT + session.asked[0]:,} turns, some {2 * (PILOT + session.asked[0]):,} s in all"
        in session.said[0]
    )
    assert sum(session.asked) + PILOT == len(record.results)
    assert f"this run of {len(record.results)} turns" in note
    assert reached(record, 0.01)
    assert not reached(replace(record, results=record.results[:PILOT]), 0.01)


def test_what_takes_too_long_is_not_begun():
    session = Session(0.01)
    note, record = session.until(0.001, 600)
    assert session.asked == []
    assert "s in all, to see a change of time by 0.10% with 95% power, more than --within 600s; in 20 turns" in note
    assert not reached(record, 0.001)


def test_turns_that_an_earlier_run_did_took_no_time_of_this_one():
    session = Session(0.01, turns=2 * PILOT)
    note, _ = session.until(0.001, 600, resumed=PILOT)
    turns, seconds = (int(word.replace(",", "")) for word in (note.split()[2], note.split()[5]))
    assert seconds == 2 * 2 * PILOT + 4 * (turns - 2 * PILOT)  # 80 s for the 20 that were run


@pytest.mark.parametrize("turns", [0, 1])
def test_without_two_turns_nothing_is_known(turns):
    session = Session(0.01, turns=turns)
    note, _ = session.until(0.01, 600)
    assert session.asked == []
    assert note == "nothing was timed twice, so it is not known when a change of time by 1.00% would be seen"
