"""Variants that take the host down, or do not load: what is lost with them, and what goes on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmharness.cells.cell import Cell, Setup
from kvmharness.lab.inside.modules import ModuleError
from kvmharness.lab.job import HangError, KernelPanicError
from kvmharness.lab.steps import Call, Load
from kvmharness.validation.probing import PROBE
from tests.machines import FakeLoader, FakeMachine
from tests.validation.campaigns import ALONE, NO_EPT, panics, run


def test_a_variant_that_does_not_load_is_lost_and_the_others_go_on():
    def refuse(variant):
        if variant == "both":
            raise ModuleError("insmod: failed")

    record, _ = run(FakeMachine(FakeLoader(on_load=refuse)), ("none", "both", "both", "none"), (NO_EPT,))
    assert [(result.variant, result.turn) for result in record.results] == [("none", 0), ("none", 3)]
    (loss,) = record.losses
    assert (loss.variant, loss.turn, loss.step, loss.type) == ("both", 1, "load", "ModuleError")


@pytest.mark.parametrize("passing", ["counting", "timing"])
def test_a_cell_that_takes_the_host_down_costs_a_boot_and_nothing_else(passing):
    machine = FakeMachine(dies_in=panics("both", "a:3x3", passing))
    record, heard = run(machine, ("none", "both", "none"), (NO_EPT, ALONE))
    assert [(r.id, r.variant, r.turn, r.error and r.error.type) for r in record.results] == [
        ("a:3x3", "none", 0, None),
        ("d:2", "none", 0, None),
        ("a:3x3", "both", 1, "KernelPanicError"),
        ("d:2", "both", 1, None),
        ("a:3x3", "none", 2, None),
        ("d:2", "none", 2, None),
    ]
    assert len(machine.jobs) == 2
    assert [step.variant for step in machine.jobs[1].steps if isinstance(step, Load)] == ["both", "none"]
    assert [(loss.variant, loss.step) for loss in record.losses] == [("both", "a:3x3")]
    (report,) = record.reports
    assert (report.step, report.kind, report.rip) == ("a:3x3", "oops", "bad+0x1/0x9")
    assert heard[-1][1:] == (6, 6)


def test_a_variant_that_dies_everywhere_costs_three_boots():
    cells = tuple(Cell(Setup.NO_EPT, 1, n) for n in range(1, 9))

    def dies_in(variant, cell, doing):
        if variant == "both":
            raise HangError("silent")

    machine = FakeMachine(dies_in=dies_in)
    record, _ = run(machine, ("none", "both", "none"), cells)
    assert [loss.step for loss in record.losses] == [cell.id for cell in cells[:3]]
    assert sum(result.variant == "none" for result in record.results) == 16
    assert len(machine.jobs) == 4


@given(st.sets(st.tuples(st.sampled_from(["none", "both"]), st.sampled_from(["a:3x3", "d:2"])), max_size=2))
def test_wherever_it_dies_every_cell_has_one_result(deaths):
    def dies_in(variant, cell, doing):
        if (variant, cell) in deaths:
            raise KernelPanicError("panicked")

    record, _ = run(FakeMachine(dies_in=dies_in), ("none", "both"), (NO_EPT, ALONE))
    found = {(result.variant, result.id): result.error is not None for result in record.results}
    assert found == {(v, c): (v, c) in deaths for v in ("none", "both") for c in ("a:3x3", "d:2")}


def test_a_boot_that_is_lost_before_anything_began_is_nobodys():
    machine = FakeMachine()
    asks = machine.run

    def run_once(job, on_event):
        if not _probes(job):
            raise KernelPanicError("panicked")
        asks(job, on_event)

    machine.run = run_once
    with pytest.raises(KernelPanicError):
        run(machine, ("none",), (NO_EPT,))


def _probes(job):
    return any(isinstance(step, Call) and step.function == PROBE for step in job.steps)
