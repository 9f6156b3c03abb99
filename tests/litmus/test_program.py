"""The language of litmus tests: what is read is what is printed, and what is wrong is named."""

import pytest

from kvmharness.errors import UsageError
from kvmharness.litmus.named.all import every, select
from kvmharness.litmus.named.entry import RULES
from kvmharness.litmus.program import Program, Row, parse, program

ROWS = [
    "L1 map H0 p0 d7 ro us",
    "L2 map G3 q0 m1",
    "L1 size H0 big",
    "L1 emap E1 d3 d130 rx",
    "L1 enter G0 E0 ad pcid=3 tag=1 host=H1 flush=all",
    "L1 invvpid addr tag=1 p0",
    "V1 cr3 H1 pcid=2 noflush",
    "L2 set cr4.pge=1",
    "host slot readonly",
]


@pytest.mark.parametrize("text", ROWS)
def test_a_row_is_printed_as_it_was_read(text):
    assert Row.parse(text).text == text
    assert Row.parse(f"  {text.replace(' ', '   ')} ").text == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no row does"),
        ("L1", "no row does"),
        ("L1 jump p0", "no row does 'jump'"),
        ("L3 read p0", "done by L1 or L2 or V1, not by 'L3'"),
        ("L2 enter G0", "done by L1"),
        ("L1 slot delete", "done by host"),
        ("L1 read p9", "'p9' is not what read takes"),
        ("L1 map H4 p0 d1", "not what map takes"),
        ("L1 map H0 p0 d64", "not what map takes"),
        ("L1 map H0 p0 d1 rw", "not what map takes"),
        ("L1 cr3 H0 pcid=9", "not what cr3 takes"),
    ],
)
def test_what_is_no_row_is_refused(text, said):
    with pytest.raises(UsageError) as caught:
        Row.parse(text)
    assert said in str(caught.value)


def test_a_line_is_named():
    with pytest.raises(UsageError, match="line 2: 'L1 red p0'"):
        program("x", "L1 read p0\nL1 red p0")


def test_l2_acts_only_where_l1_has_entered_it():
    with pytest.raises(UsageError, match="L2 read p0 stands where L1 has not entered L2"):
        program("x", "L1 enter G0\nL2 read p0\nL1 read p0\nL2 read p0")


def test_there_is_something_to_do():
    with pytest.raises(UsageError, match="0 rows"):
        Program("x", ())


@pytest.mark.parametrize("test", every(), ids=lambda test: test.name)
def test_a_named_test_is_read_back_from_its_text(test):
    again = parse(test.text)
    assert (again.name, again.rows) == (test.name, test.rows)
    assert not test.why.endswith(".")


def test_every_rule_has_its_cases():
    assert {test.rule for test in every()} == set(RULES)
    assert len(every()) >= 40
    assert len({test.name for test in every()}) == len(every())


def test_tests_are_chosen_by_name():
    assert [test.name for test in select(("invvpid-o*", "wp"))] == ["invvpid-one", "wp"]
    with pytest.raises(UsageError, match="no litmus test is called 'nonesuch'"):
        select(("nonesuch",))
