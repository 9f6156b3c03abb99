"""A cell traced: what is asked of the machine, how what it says is read; and in real emulated hosts what it shows."""

import re

import pytest

from kvmharness.cells.cell import Cell
from kvmharness.cli import tracing as shown
from kvmharness.cli.main import main
from kvmharness.cli.output import Output
from kvmharness.errors import HostRequirementError
from kvmharness.lab.events import Data
from kvmharness.results.jsonread import ShapeError
from kvmharness.results.record import CellError
from kvmharness.validation.campaign import EMULATED_PLAN
from kvmharness.validation.tracing import Traced, trace_cell
from tests.surroundings import skylake

CELL = Cell.parse("a:3x3")
LINES = [" kvm_exit_handler();"]


def traced(*data, passes=2):
    jobs = []

    def run(job, on_event):
        jobs.append(job)
        for each in data:
            on_event(Data(0, each))

    found = trace_cell(run, CELL, skylake(), EMULATED_PLAN, passes=passes)
    (job,) = jobs
    return found, job.steps[-1].args


def test_a_whole_rotation_is_traced_after_the_warm_up():
    found, asked = traced({"lines": LINES}, {"lines": LINES}, {"passes": 2, "failed": None, "lacking": ""})
    assert found == Traced("host", (*LINES, *LINES))
    assert asked["passes"] == [33, 3 + 2]  # 32 is no multiple of the period, which is 3; two are cut at their ends
    assert asked["modules"] == []  # nobody's machine


def test_the_warm_up_alone_is_traced_where_the_other_guest_failed_there():
    assert traced({"passes": 1, "failed": None, "lacking": ""}, passes=1)[1]["passes"] == [33]


def test_a_guest_that_failed_says_how():
    error = {"type": "GuestHungError", "message": "no doorbell"}
    found, _ = traced({"passes": 1, "failed": {"cell": 0, "error": error}, "lacking": "no graph"})
    assert (found.failed, found.passes, found.lacking) == (CellError(**error), 1, "no graph")


@pytest.mark.parametrize("data", [{}, {"lines": [1]}, {"passes": "x", "failed": None, "lacking": ""}])
def test_what_is_not_in_the_form_of_a_trace_is_refused(data):
    with pytest.raises(ShapeError):
        traced(data, data)


def test_another_kvm_than_the_one_that_was_asked_is_said():
    with pytest.raises(HostRequirementError, match="not the one"):
        traced({"differs": "cpuid"})


def trip(*calls):
    return [" kvm_exit [kvm]();", "/* kvm_exit: reason VMRESUME */", "/* kvm_nested_vmrun: rip */", *calls]


def test_the_round_trip_in_which_the_guest_failed_is_shown_and_ends_with_1(capsys):
    before = Traced("none", (*trip(), *trip("a();"), *trip("a();"), *trip()), 1)
    after = Traced("p1", (*trip(), *trip("a();"), *trip()), 1, CellError("StaleTranslation", "stale: tag 2"))
    assert shown.show("a:3x3", (before, after), Output()) == 1
    said = capsys.readouterr().out
    assert "a:3x3 under p1: stale: tag 2" in said
    assert "round trip 3 of 3: - none, + p1" in said
    assert "more often under none: a()" in said
    assert "- a()" in said


def test_round_trips_that_are_the_same_are_said_to_be(capsys):
    same = tuple(trip() * 3)
    assert shown.show("a:3x3", (Traced("none", same), Traced("p1", same)), Output()) == 0
    assert "2 round trips are the same, call by call, under none and p1" in capsys.readouterr().out


def test_a_guest_that_makes_no_exits_leaves_nothing_to_show(capsys):
    assert shown.show("d:1", (Traced("host", ()),), Output()) == 0
    assert "no whole round trip" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("host", ["vmx", "svm"])
@pytest.mark.needs("emulated_vmx", "emulated_svm")
def test_a_trace_shows_the_loads_that_the_oracle_says_a_patch_saves(host, capsys):
    """(a)(3,3): 2 root loads a round trip without the series, 0 with its first patch."""
    arguments = ["run", "a:3x3", "--host", host, "--series", "fast-cr3-switch", "--variant", "p1", "--trace"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert re.search(r"more often under none: .*kvm_mmu_load\(\) 2x", said)
    assert len(re.findall(r"^- +kvm_mmu_load\(\)$", said, re.MULTILINE)) == 2
    assert not re.search(r"^\+ +kvm_mmu_load\(\)$", said, re.MULTILINE)
    assert re.search(r"^  kvm_mmu_new_pgd\(\)  arch/x86/kvm/mmu/mmu\.c:\d+$", said, re.MULTILINE)
