"""Several hosts side by side: what each of them says of a cell, and which one says otherwise."""

from dataclasses import replace

from kvmharness.cells.matrix import select
from kvmharness.report.hosts import across
from kvmharness.report.rows import rows
from kvmharness.results.record import CellError
from kvmharness.results.verdict import Outcome
from tests import builders


def hosts(*changes):
    """The same two cells on as many hosts, the first cell's results changed on each."""
    record = builders.record(select(("a:3x3", "a:1x1")), turns=1)
    found = {}
    for number, change in enumerate(changes):
        results = [replace(each, **change) if each.id == "a:3x3" else each for each in record.results]
        found[f"h{number}"] = rows(replace(record, results=tuple(results)))
    return found


FAILS = {"error": CellError("GuestError", "a triple fault"), "samples": ()}
SKIPPED = {"skipped": "no EPT", "samples": (), "counts": {}, "exits": {}, "round_trips": 0, "predicted": None}


def test_one_host_is_no_matrix():
    assert across(hosts({})) == ()


def test_a_host_that_says_otherwise_than_the_others_is_named():
    first, second = across(hosts({}, FAILS, {}))
    assert (first.id, first.outcomes) == ("a:3x3", (Outcome.PASS, Outcome.FAIL, Outcome.PASS))
    assert first.apart == ("h1",)
    assert (second.id, second.apart) == ("a:1x1", ())


def test_of_two_the_one_that_fails_is():
    assert [row.apart for row in across(hosts(FAILS, {}))] == [("h0",), ()]


def test_what_a_host_cannot_run_is_no_other_opinion():
    first, _ = across(hosts({}, SKIPPED))
    assert (first.outcomes, first.apart) == ((Outcome.PASS, Outcome.SKIPPED), ())


def test_all_that_fail_alike_agree():
    first, _ = across(hosts(FAILS, FAILS, SKIPPED))
    assert first.apart == ()
