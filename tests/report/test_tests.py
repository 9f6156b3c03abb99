"""Tests of a battery in reports: outcomes that are not one of a cell's, evidence, reasons, counts."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from kvmharness.report.junit import junit
from kvmharness.report.ktap import run_ktap
from kvmharness.report.tests import failure_lines, groups, overall, skip_lines
from kvmharness.results.tests import FAIL, HANG, PANIC, PASS, SELFTESTS, SKIP, TestResult, tally
from kvmharness.results.verdict import Outcome
from tests import builders

SMM = TestResult(SELFTESTS, "x86_64/smm_test", "host")
HUNG = replace(SMM, name="x86_64/spins", outcome=HANG, why="did not end within 10 s", table=("first", "second"))
NONE = replace(SMM, name="x86_64/amx_test", outcome=SKIP, why="no AMX")
TESTS = (SMM, HUNG, NONE, replace(NONE, name="x86_64/xfd"))


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ((PASS, SKIP), Outcome.PASS),
        ((PASS, FAIL), Outcome.FAIL),
        ((PASS, HANG), Outcome.FAIL),
        ((PANIC,), Outcome.FAIL),
        ((SKIP,), Outcome.SKIPPED),
        ((), Outcome.SKIPPED),
    ],
)
def test_the_worst_counts(outcomes, expected):
    assert overall(replace(SMM, outcome=outcome) for outcome in outcomes) is expected


def test_the_words():
    assert tally(TESTS) == "1 passed, 0 failed, 1 hung, 2 skipped"
    assert skip_lines(TESTS) == ["SKIPPED no AMX: x86_64/amx_test, x86_64/xfd"]
    assert failure_lines(HUNG) == ["HANG x86_64/spins: did not end within 10 s", "first", "second"]


def test_a_long_output_is_cut_at_its_beginning():
    long = replace(HUNG, table=tuple(str(number) for number in range(100)))
    assert failure_lines(long)[1:3] == ["... 84 lines before", "84"]
    assert len(failure_lines(long, every=True)) == 101


def test_groups_are_a_battery_under_a_variant():
    first, second = groups([*TESTS, replace(SMM, variant="p1")])
    assert (first.variant, first.failed, first.skipped) == ("host", (HUNG,), tuple(skip_lines(TESTS)))
    assert (second.variant, second.tally, second.failed) == ("p1", "1 passed, 0 failed, 0 skipped", ())


def test_ktap_has_a_line_a_test():
    record = replace(builders.record([], ("host",)), tests=TESTS)
    assert run_ktap([record])[2:] == [
        "  KTAP version 1",
        "  1..4",
        "  ok 1 x86_64/smm_test host",
        "  # first",
        "  # second",
        "  not ok 2 x86_64/spins host # did not end within 10 s",
        "  ok 3 x86_64/amx_test host # SKIP no AMX",
        "  ok 4 x86_64/xfd host # SKIP no AMX",
        "not ok 1 Linux 6.1.192, emulated host (bochs 2.7, skylake)",
    ]


def test_junit_has_a_case_a_test_with_its_output():
    (suite,) = ElementTree.fromstring(junit([replace(builders.record([], ("host",)), tests=TESTS)]))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "2")
    failed = suite.findall("testcase")[1]
    assert (failed.get("classname"), failed.get("name")) == (SELFTESTS, "x86_64/spins [host]")
    assert failed.find("failure").get("message") == "did not end within 10 s"
    assert failed.findtext("system-out") == "first\nsecond"
