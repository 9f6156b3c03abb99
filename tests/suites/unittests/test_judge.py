"""What is made of a test's output and end: a name for each report, and the same words for the same failure."""

import pytest

from kvmharness.results.tests import FAIL, HANG, PANIC, PASS, SKIP
from kvmharness.suites.test import Ran
from kvmharness.suites.unittests.judge import judged


def lines(text, ran=None, **end):
    data = [{"output": text[:5]}, {"alive": 5.0}, {"output": text[5:]}]
    if end:
        data.append(end)
    return {line.name: line for line in judged("t", Ran(data=data, **(ran or {})))}


def whole(text="a\n", **more):
    line = lines(text, **more)["t"]
    return line.outcome, line.why


def test_every_kind_of_report():
    """lib/report.c: an expected failure and a known one are as they should be, an unexpected pass is not."""
    text = "PASS: a\nFAIL: b\nSKIP: c\nXPASS: d\nXFAIL: e\nKFAIL: f\nINFO: g\n  PASS: h\nnothing PASS: i\n"
    found = lines(text, ended="exit", code=1)
    assert {name: line.outcome for name, line in found.items()} == {
        "t: a": PASS,
        "t: b": FAIL,
        "t: c": SKIP,
        "t: d": FAIL,
        "t: e": PASS,
        "t: f": PASS,
        "t": FAIL,
    }
    assert found["t: d"].why == "it was expected to fail, and did not"


def test_names_that_come_again_are_numbered():
    found = lines("PASS: a\nFAIL: a\nPASS: b\nPASS: a\n", ended="exit", code=1)
    assert list(found) == ["t: a", "t: a #2", "t: b", "t: a #3", "t"]
    assert found["t: a #2"].outcome == FAIL


def test_what_changes_from_run_to_run_is_not_in_a_name_and_what_does_not_is():
    one = lines("FAIL: took 1234 cycles at 0x7ffe12345678 in MSR 0xc0000080, 4096 bytes\n", ended="exit", code=1)
    other = lines("FAIL: took 98765 cycles at 0x123456789 in MSR 0xc0000080, 4096 bytes\n", ended="exit", code=1)
    assert list(one) == list(other) == ["t: took N cycles at N in MSR 0xc0000080, 4096 bytes", "t"]


def test_a_failure_keeps_what_is_told_behind_it():
    text = "PASS: a\nFAIL: b\n\tDump 1\n    Dump 2\nPASS: c\n\tnot this\n"
    assert lines(text, ended="exit", code=1)["t: b"].output == ("FAIL: b", "\tDump 1", "    Dump 2")
    assert lines(text, ended="exit", code=1)["t: c"].output == ()


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("a\n", 0, (PASS, "")),
        ("", 0, (FAIL, "it ended without a word")),
        ("SUMMARY: 9 tests, 2 unexpected failures\n", 1, (FAIL, "9 tests, 2 unexpected failures")),
        ("enabling apic\nno PKU here\nSUMMARY: 0 tests\n", 38, (SKIP, "no PKU here")),
        ("SKIP: no such CPU\nSUMMARY: 1 tests, 1 skipped\n", 38, (SKIP, "no such CPU")),
        ("ABORT: x: took 123456\nSUMMARY: 2 tests\n", 63, (FAIL, "ABORT: x: took N")),
        ("x.c:5: assert failed: a == b\n\tSTACK: 4\n", 63, (FAIL, "x.c:5: assert failed: a == b")),
        (
            "Unhandled exception 6 #UD at ip 0000000000400d21\n",
            7,
            (FAIL, "Unhandled exception 6 #UD at ip 0000000000400d21"),
        ),
        ("a\n", 7, (FAIL, "it ended with the code 7, which means nothing")),
    ],
)
def test_exit_codes(text, code, expected):
    assert whole(text, ended="exit", code=code) == expected


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (
            {"ended": "timeout", "states": ["vCPU 0 was at RIP 0x1234"]},
            (HANG, "it did not come to its end in its time"),
        ),
        ({"ended": "shutdown"}, (FAIL, "a triple fault")),
        ({"ended": "internal", "why": "KVM internal error EMULATION"}, (FAIL, "KVM internal error EMULATION")),
        ({"ended": "flood", "limit": 9}, (FAIL, "it was stopped: it printed more than 9 bytes")),
        ({"ended": "memory", "why": "1 MB left"}, (SKIP, "it was stopped: 1 MB left")),
        ({"ended": "skip", "why": "x is not y"}, (SKIP, "x is not y")),
        ({}, (FAIL, "it said nothing of its end")),
    ],
)
def test_other_ends(end, expected):
    assert whole(**end) == expected


@pytest.mark.parametrize(
    ("lost", "why"), [(HANG, "it did not come to its end in its time"), (PANIC, "BUG: at mmu.c:1")]
)
def test_a_lost_host_is_the_tests(lost, why):
    found = lines("PASS: a\n", {"lost": lost, "why": "BUG: at mmu.c:1", "table": ("the report",)})
    assert (found["t"].outcome, found["t"].why) == (lost, why)
    assert found["t"].output[-1] == "the report"
    assert found["t: a"].outcome == PASS


def test_a_vm_that_cannot_be_made():
    assert whole(ran={"failed": "KVM_CREATE_VM: Out of memory"}) == (FAIL, "KVM_CREATE_VM: Out of memory")


def test_the_last_lines_are_kept_of_what_did_not_pass():
    text = "".join(f"line {number}\n" for number in range(50))
    assert lines(text, ended="shutdown")["t"].output == tuple(f"line {number}" for number in range(30, 50))
    assert lines(text, ended="exit", code=0)["t"].output == ()
    states = ["vCPU 0 was at RIP 0x1234", "vCPU 1 was at RIP 0x5678"]
    assert lines("a\n", ended="timeout", states=states)["t"].output == ("a", *states)
