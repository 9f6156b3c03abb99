"""Whole runs: turns in, one record out. The emulated host is a fake that answers a job's steps as the agent does."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from kvmharness.cells.experiment import Plan

from kvmharness.cells.cell import Cell, Setup, with_params
from kvmharness.errors import ExitCode
from kvmharness.guest import shipped as programs
from kvmharness.measure.clock import UNIT_EMULATED, UNIT_TSC
from kvmharness.results.record import CellResult, VariantId
from kvmharness.validation.campaign import (
    EMULATED_PLAN,
    RUN_CELLS,
    StepFailedError,
    Turn,
    Variant,
    run_here,
    run_in,
    schedule,
)
from tests import builders

NO_EPT, ALONE = Cell(Setup.NO_EPT, 3, 3), Cell(Setup.L1_ALONE, 2, guest_cr3s=0)
NO_TDP_MMU = with_params(NO_EPT, {"kvm.tdp_mmu": "N"})
NONE = Variant(VariantId("none", "6.1 without the series", oracle=builders.view("none")), Path("/modules/none"))
BOTH = Variant(VariantId("both", "6.1"), Path("/modules/both"))


class FakeMachine:
    """Answers each step; `spoil` may replace the events of one."""

    description = "Fake 1.0 skylake"

    def __init__(self, spoil=lambda number, step: None):
        self.job, self._spoil = None, spoil

    def run(self, job, on_event):
        job.check()
        self.job = job
        on_event({"event": "hello", "python": "3.11"})
        for number, step in enumerate(job.steps):
            on_event({"step": number, "event": "begin", "do": step["do"]})
            for event in self._spoil(number, step) or self._events(step):
                on_event({"step": number, **event})
        on_event({"event": "bye"})

    def _events(self, step):
        if step["do"] == "call":
            given = step["args"]
            yield {"event": "data", "data": {"host": {"emulated": "vmx:skylake", "kernel_release": "6.1.192"}}}
            for data in given["cells"]:
                cell = Cell.from_json(data)
                result = CellResult(cell.id, data, given["variant"], given["turn"], params=dict(cell.params))
                yield {"event": "data", "data": {"result": result.to_json()}}
        yield {"event": "end", "result": None}


def run(machine, order, cells, **options):
    heard = []
    record = run_in(
        machine,
        (NONE, BOTH),
        order,
        cells,
        command=("kvmharness", "validate"),
        on_result=lambda result, number, total: heard.append((result.id, number, total)),
        **options,
    )
    return record, heard


def test_turns_follow_the_order():
    made = schedule(("none", "both", "both", "none"), (NO_EPT, ALONE))
    assert [(turn.number, turn.variant) for turn in made] == [(0, "none"), (1, "both"), (2, "both"), (3, "none")]
    assert all(turn.cells == (NO_EPT, ALONE) for turn in made)


def test_cells_with_other_parameters_are_turns_of_their_own():
    made = schedule(("none", "both"), (NO_EPT, NO_TDP_MMU, ALONE))
    assert made == (
        Turn(0, "none", {}, (NO_EPT, ALONE)),
        Turn(0, "none", {"kvm.tdp_mmu": "N"}, (NO_TDP_MMU,)),
        Turn(1, "both", {}, (NO_EPT, ALONE)),
        Turn(1, "both", {"kvm.tdp_mmu": "N"}, (NO_TDP_MMU,)),
    )


def test_one_boot_does_all_turns():
    machine = FakeMachine()
    record, heard = run(machine, ("none", "both"), (NO_EPT, NO_TDP_MMU))
    assert [step["do"] for step in machine.job.steps] == ["load", "call", "unload"] * 4
    loads = [step for step in machine.job.steps if step["do"] == "load"]
    assert [(step["variant"], step["params"]) for step in loads] == [
        ("none", {}),
        ("none", {"kvm.tdp_mmu": "N"}),
        ("both", {}),
        ("both", {"kvm.tdp_mmu": "N"}),
    ]
    assert machine.job.modules == {"none": Path("/modules/none"), "both": Path("/modules/both")}
    assert [(result.id, result.variant, result.turn) for result in record.results] == [
        ("a:3x3", "none", 0),
        ("a:3x3/tdp_mmu=N", "none", 0),
        ("a:3x3", "both", 1),
        ("a:3x3/tdp_mmu=N", "both", 1),
    ]
    assert heard == [(result.id, i + 1, 4) for i, result in enumerate(record.results)]


def test_calls_say_everything_that_a_run_depends_on():
    machine = FakeMachine()
    run(machine, ("none", "both"), (NO_EPT,))
    calls = [step for step in machine.job.steps if step["do"] == "call"]
    assert {step["function"] for step in calls} == {RUN_CELLS}
    assert [step["args"]["oracle"] for step in calls] == [
        {
            "oracle": "root-cache",
            "features": {"ignore_direct_pgd": 0, "reuse_current": 0, "previous_roots": 3},
            "why": "found in its source",
        },
        None,
    ]
    assert all(step["args"]["plan"] == asdict(EMULATED_PLAN) for step in calls)
    assert set(calls[0]["args"]["images"]) == set(programs.names()), "there is no assembler inside"


def test_the_record():
    record, _ = run(FakeMachine(), ("none", "both"), (NO_EPT,))
    assert record.unit == UNIT_EMULATED
    assert record.host["emulator"] == "Fake 1.0 skylake"
    assert record.command == ("kvmharness", "validate")
    assert [variant.name for variant in record.variants] == ["none", "both"]
    again, _ = run(FakeMachine(), ("none", "both"), (NO_EPT,))
    assert replace(again, when=record.when) == record


def test_what_the_kernel_logged_belongs_to_the_cells_of_that_step():
    def warn(number, step):
        if step["do"] != "call" or step["args"]["turn"] != 1:
            return None
        machine = FakeMachine()
        return [*list(machine._events(step))[:-1], {"event": "dmesg", "lines": ["WARNING: mmu.c"]}, {"event": "end"}]

    record, _ = run(FakeMachine(warn), ("none", "both", "none"), (NO_EPT,))
    assert record.dmesg == ("WARNING: mmu.c",)
    assert [result.dmesg for result in record.results] == [(), ("WARNING: mmu.c",), ()]


def test_a_variant_that_does_not_load():
    def refuse(number, step):
        if step["do"] == "load" and step["variant"] == "both":
            return [{"event": "error", "type": "ModuleError", "message": "insmod: failed", "hint": "", "exit_code": 5}]
        return None

    with pytest.raises(StepFailedError, match="load failed: insmod: failed") as caught:
        run(FakeMachine(refuse), ("none", "both"), (NO_EPT,))
    assert (caught.value.kind, caught.value.exit_code) == ("load", ExitCode.LOST)


def test_a_bug_inside_shows_its_traceback():
    def crash(number, step):
        if step["do"] != "call":
            return None
        return [{"event": "error", "type": "KeyError", "message": "'x'", "exit_code": None, "traceback": "line 7"}]

    with pytest.raises(StepFailedError, match="a bug: KeyError") as caught:
        run(FakeMachine(crash), ("none",), (NO_EPT,))
    assert "line 7" in str(caught.value)
    assert caught.value.exit_code == ExitCode.LOST


@pytest.mark.needs("kvm")
def test_a_run_on_this_machine():
    heard = []
    record = run_here(
        (ALONE, NO_EPT),
        Plan(warmup=8, round_trips=60, batches=3, batch_round_trips=10),
        turns=2,
        oracle=None,
        command=("kvmharness", "run"),
        on_result=lambda result, number, total: heard.append((result.id, number, total)),
    )
    assert record.unit == UNIT_TSC
    assert [(r.id, r.turn) for r in record.results] == [("d:2", 0), ("a:3x3", 0), ("d:2", 1), ("a:3x3", 1)]
    assert heard == [("d:2", 1, 4), ("a:3x3", 2, 4), ("d:2", 3, 4), ("a:3x3", 4, 4)]
    assert record.results[0].error is None
    assert record.variants[0].source == f"running kernel {record.host['kernel_release']}"
