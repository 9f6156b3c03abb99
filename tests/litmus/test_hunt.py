"""Random tests: the same seed gives the same rows, every program can be planned, and a failure is shrunk."""

from itertools import islice

import pytest

from kvmharness.litmus.hunt.generate import one, programs
from kvmharness.litmus.hunt.shrink import shrink, way
from kvmharness.litmus.judge import Answer, Outcome
from kvmharness.litmus.model.machine import Model
from kvmharness.litmus.needs import lacks, offers
from kvmharness.litmus.plan import plan
from kvmharness.litmus.program import parse, program
from kvmharness.vendors.vmx.vmx import VMX
from tests.surroundings import skylake

OFFERED = skylake().offered
OFFERS = offers(VMX, OFFERED)


def made(seed, count=3, **how):
    return list(islice(programs(seed, OFFERS, **{"svm": False, **how}), count))


def test_a_seed_gives_the_same_programs():
    assert [each.text for each in made(7)] == [each.text for each in made(7)]
    assert made(7)[0].text != made(8)[0].text
    assert one("random-7-2", OFFERS, svm=False).text == made(7)[2].text
    assert made(7, 1, first=2)[0].text == made(7)[2].text, "those before it need not be made"


@pytest.mark.parametrize("seed", range(1, 6))
def test_every_program_can_be_planned_and_read_back(seed):
    for each in made(seed):
        assert parse(each.text).rows == each.rows
        assert lacks(each, OFFERS) == ""
        assert plan(each, VMX, OFFERED).answers


def test_without_nesting_there_is_no_l2():
    without = programs(3, offers(None, OFFERED), svm=False)
    rows = [row for each in islice(without, 3) for row in each.rows]
    assert {row.who for row in rows} <= {"L1", "V1", "host"}
    assert not any(row.verb == "enter" for row in rows)


def test_programs_use_what_there_is():
    verbs = {row.verb for each in made(1, 40) for row in each.rows}
    assert {"enter", "emap", "invept", "invvpid", "slot", "migrate", "nested", "dirty", "look", "peek", "set"} <= verbs
    assert "invlpga" not in verbs


def faulty(each):
    """What a KVM would answer that forgets L1's INVLPG of p1: whoever looks there later sees the old page."""
    model, answers, mapped, flushed = Model(svm=False), [], False, False
    for row in each.rows:
        allowed = sorted(model.step(row))
        seen = allowed[0] if allowed else ""
        mapped |= row.verb == "map" and row.get("probe") == "p1" and row["table"] == "H0"
        flushed |= mapped and row.verb == "invlpg" and row["probe"] == "p1" and row.who == "L1"
        if flushed and row.who == "L1" and row.verb == "read" and row["probe"] == "p1" and len(allowed) == 1:
            seen = "d1"
        answers.append(Answer(row, tuple(allowed), seen))
    return Outcome(each.name, tuple(answers))


def test_a_failure_is_shrunk_to_the_rows_that_it_takes():
    noise = "L1 read p0\nL1 map H1 p2 d3\nL2x".replace("L2x", "L1 enter G0\nL2 read p0\nL1 set cr4.pge=1\nL1 write p3")
    rows = f"{noise}\nL1 map H0 p1 d40\n{noise}\nL1 invlpg p1\n{noise}\nL1 read p1\n{noise}"
    long = program("long", rows)
    tried = []

    def attempt(candidates):
        tried.append(len(candidates))
        return [faulty(each) for each in candidates]

    short = shrink(long, faulty(long), attempt, lambda each: None)
    assert [row.text for row in short.rows] == ["L1 map H0 p1 d40", "L1 invlpg p1", "L1 read p1"]
    assert way(faulty(short)) == way(faulty(long)) == ("L1", "read", "d")
    assert len(tried) < 24, "a round is one job"


def test_what_fails_in_another_way_is_not_taken():
    long = program("long", "L1 map H0 p1 d40\nL1 invlpg p1\nL1 read p1")
    short = shrink(
        long, faulty(long), lambda some: [Outcome(each.name, (), "GuestHungError: x") for each in some], print
    )
    assert short.rows == long.rows
