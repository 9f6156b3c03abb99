"""One series on several hosts that are only pretended: one verdict, and a record of each."""

from dataclasses import replace

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.errors import LostMachineError
from kvmharness.lab.job import KernelPanicError
from kvmharness.lab.steps import Load
from kvmharness.report.commit import commit_lines
from kvmharness.results.journal import Journal
from kvmharness.results.store import load
from kvmharness.results.verdict import Outcome
from kvmharness.validation.campaign import EMULATED_PLAN, Keeping
from kvmharness.validation.together import Part, validate_on
from tests.machines import FakeLoader, FakeMachine
from tests.validation.test_validate import built

A11, A33 = Cell(Setup.NO_EPT, 1, 1), Cell(Setup.NO_EPT, 3, 3)


def part(host, machine, *cells):
    return Part(host, lambda kernel: machine, built(), cells, EMULATED_PLAN)


def run(*parts, **more):
    seen = []
    found = validate_on(
        parts, turns=1, command=("x",), on_result=lambda *result: seen.append((result[0], *result[2:])), **more
    )
    return found, seen


def claim(found, name):
    return next(answer for answer in found.verdict.claims if answer.name == name)


def test_each_host_runs_its_own_cells_and_is_named():
    found, seen = run(part("vmx", FakeMachine(), A11, A33), part("vmx:penryn", FakeMachine(), A11))
    assert found.verdict.outcome is Outcome.PASS
    assert {host: record.host["name"] for host, record in found.records.items()} == {
        "vmx": "vmx",
        "vmx:penryn": "vmx:penryn",
    }
    assert [len(record.results) for record in found.records.values()] == [8, 4]
    assert seen[0] == ("vmx", 1, 8)
    assert seen[-1] == ("vmx:penryn", 4, 4)


def test_what_holds_shows_every_host_in_one_line():
    found, _ = run(part("vmx", FakeMachine(), A11, A33), part("svm", FakeMachine(), A11))
    first = claim(found, "results-present").figures[0]
    assert first.startswith("vmx: 2 cells")
    assert "; svm: 1 cell" in first
    loaded = claim(found, "modules-load-and-unload").figures
    assert loaded == ("vmx, svm: 4 times loaded and unloaded",)


def test_one_host_that_fails_fails_them_all_and_says_where():
    def warn(variant):
        if variant == "p1":
            loud.log.lines.append("WARNING: CPU: 0 PID: 1 at arch/x86/kvm/mmu/mmu.c:1")

    loud = FakeMachine(FakeLoader(on_load=warn))
    found, _ = run(part("vmx", FakeMachine(), A11), part("svm", loud, A11))
    assert found.verdict.outcome is Outcome.FAIL
    figures = claim(found, "no-new-messages").figures
    assert figures
    assert all(figure.startswith("svm: ") for figure in figures)


def test_a_host_that_goes_down_leaves_what_ran():
    def dies(number, step):
        if isinstance(step, Load) and step.variant == "p1":
            raise KernelPanicError("the kernel panicked")

    found, _ = run(part("vmx", FakeMachine(dies=dies), A11), part("svm", FakeMachine(), A11))
    assert "p1" not in {result.variant for result in found.records["vmx"].results}
    assert "p1" in {result.variant for result in found.records["svm"].results}
    assert found.verdict.outcome is Outcome.FAIL
    assert claim(found, "modules-load-and-unload").figures[0] == "vmx: variant p1, load: the kernel panicked"


def lost(number, step):
    raise LostMachineError("the emulator died")


def test_a_host_that_is_lost_leaves_the_others_records_and_no_pass():
    found, _ = run(part("vmx", FakeMachine(), A11), part("svm", FakeMachine(dies=lost), A11))
    assert list(found.records) == ["vmx"]
    assert found.verdict.outcome is Outcome.INCONCLUSIVE
    assert claim(found, "every-host-answers").figures == ("svm: the emulator died",)


def test_what_a_lost_host_gave_is_in_the_verdict_and_stays_to_be_resumed(tmp_path):
    def late(number, step):
        if isinstance(step, Load) and step.variant == "p2":
            raise LostMachineError("the emulator died")

    with Journal(tmp_path / "svm.json") as journal:
        cut = replace(part("svm", FakeMachine(dies=late), A11), keeping=Keeping(journal))
        found, _ = run(part("vmx", FakeMachine(), A11), cut)
        journal.done()
    assert found.verdict.outcome is Outcome.INCONCLUSIVE
    assert [result.variant for result in found.records["svm"].results] == ["none", "p1"]
    assert found.records["svm"].partial
    assert load(journal.path).partial


def test_when_every_host_is_lost_there_is_no_verdict():
    with pytest.raises(LostMachineError):
        run(part("vmx", FakeMachine(dies=lost), A11), part("svm", FakeMachine(dies=lost), A11))


def test_what_could_not_run_stands_in_the_verdict():
    found, _ = run(part("vmx", FakeMachine(), A11), untested=("Not on svm: a:1x1/ept=0: no such parameter.",))
    assert found.verdict.untested[-1].startswith("Not on svm: a:1x1/ept=0")


def test_the_table_has_a_part_for_each_host():
    found, _ = run(part("vmx", FakeMachine(), A11), part("vmx:penryn", FakeMachine(), A11))
    lines = commit_lines(tuple(found.records.values()), found.verdict)
    assert len([line for line in lines if line.startswith("Linux ")]) == 2
    assert len([line for line in lines if line.startswith("a:1x1 ")]) == 2
