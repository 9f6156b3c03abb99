"""Whole runs: turns in, one record out, on the fake machine."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Lock

import pytest

from kvmharness.cells.cell import Cell, with_params
from kvmharness.cells.matrix import select
from kvmharness.cells.passes import Plan
from kvmharness.cells.turn import EXECUTE
from kvmharness.errors import ExitCode, GuestError, KvmHarnessError
from kvmharness.lab.job import ProtocolError, StepFailedError
from kvmharness.lab.steps import Call, Load, Unload
from kvmharness.measure.clock import UNIT_EMULATED, UNIT_TSC
from kvmharness.measure.watch import Watch
from kvmharness.results.incidents import Leftover, StepLog
from kvmharness.validation import campaign
from kvmharness.validation.campaign import run_here
from kvmharness.validation.turns import Turn, schedule
from tests.hostfiles import HostFiles
from tests.machines import FakeLoader, FakeMachine, raw
from tests.surroundings import skylake
from tests.validation.campaigns import ALONE, NO_EPT, NO_TDP_MMU, run

ONE_AT_A_TIME = Lock()

ANOTHER_VM = """
from time import sleep
from kvmharness.kvm.system import Kvm
with Kvm.open() as kvm, kvm.create_vm():
    print("there", flush=True)
    sleep(60)
"""


def test_turns_follow_the_order():
    made = schedule(("none", "both", "both", "none"), (NO_EPT, ALONE))
    assert [(turn.number, turn.variant) for turn in made] == [(0, "none"), (1, "both"), (2, "both"), (3, "none")]
    assert all(turn.cells == (NO_EPT, ALONE) for turn in made)


def test_cells_with_other_parameters_are_turns_of_their_own():
    made = schedule(("none", "both"), (NO_EPT, NO_TDP_MMU, ALONE))
    assert made == (
        Turn(0, "none", (), (NO_EPT, ALONE)),
        Turn(0, "none", (("kvm.tdp_mmu", "N"),), (NO_TDP_MMU,)),
        Turn(1, "both", (), (NO_EPT, ALONE)),
        Turn(1, "both", (("kvm.tdp_mmu", "N"),), (NO_TDP_MMU,)),
    )


def test_one_boot_does_all_turns():
    machine = FakeMachine()
    record, heard = run(machine, ("none", "both"), (NO_EPT, NO_TDP_MMU))
    (job,) = machine.jobs
    assert [type(step) for step in job.steps] == [Load, Call, Unload] * 4
    assert [step for step in job.steps if isinstance(step, Load)] == [
        Load("none", {}),
        Load("none", {"kvm.tdp_mmu": "N"}),
        Load("both", {}),
        Load("both", {"kvm.tdp_mmu": "N"}),
    ]
    assert all(step.memory for step in job.steps if isinstance(step, Unload))
    assert job.modules == {"none": Path("/modules/none"), "both": Path("/modules/both")}
    assert [(result.id, result.variant, result.turn) for result in record.results] == [
        ("a:3x3", "none", 0),
        ("a:3x3/tdp_mmu=N", "none", 0),
        ("a:3x3", "both", 1),
        ("a:3x3/tdp_mmu=N", "both", 1),
    ]
    assert heard == [(result.id, i + 1, 4) for i, result in enumerate(record.results)]


class Repeating(FakeMachine):
    """One on which the same job gives the same, so that another one may do a part of it."""

    identity = "one that repeats"


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What a machine is may be kept, as it is for one that repeats."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("kvmharness.validation.probing.modules_id", str)


@pytest.mark.parametrize(
    ("order", "parts"),
    [
        (("none",), [["none"]]),
        (("none", "both"), [["none"], ["both"]]),
        (("none", "both", "both"), [["none"], ["both", "both"]]),
        (("none", "both", "both", "none"), [["none", "both"], ["both", "none"]]),
    ],
)
def test_where_runs_repeat_each_half_of_the_turns_has_a_host_of_its_own(order, parts, asked):
    machine = Repeating()
    record, _ = run(machine, order, (NO_EPT, ALONE))
    loads = [[step.variant for step in job.steps if isinstance(step, Load)] for job in machine.jobs]
    assert loads == parts
    whole, _ = run(FakeMachine(), order, (NO_EPT, ALONE))
    assert record.results == whole.results


def test_two_hosts_at_work_at_the_same_time_make_the_same_record(asked, monkeypatch):
    met = Barrier(2, timeout=30)  # passed when both jobs are going on

    class Two(Repeating):
        at_once = 2

        def run(self, job, on_event):
            if any(isinstance(step, Call) and step.function == EXECUTE for step in job.steps):
                met.wait()
            with ONE_AT_A_TIME:  # what the fake machine patches is the process's own
                super().run(job, on_event)

    both, heard = run(Two(), ("none", "both", "both"), (NO_EPT, ALONE))
    alone, _ = run(Repeating(), ("none", "both", "both"), (NO_EPT, ALONE))
    assert not met.broken
    assert replace(both, when=alone.when) == alone
    assert [number for _, number, _ in heard] == [1, 2, 3, 4, 5, 6]


LONG = select(("a:1x1", "a:2x1", "a:3x1", "a:4x1", "a:5x1"))


@pytest.fixture
def short(monkeypatch):
    """A turn of five cells is too long already."""
    monkeypatch.setattr("kvmharness.validation.turns.CELLS_MAX", 4)
    monkeypatch.setattr("kvmharness.validation.turns.PIECE", 2)


def test_a_turn_that_is_too_long_is_done_by_several_hosts(asked, request):
    whole, _ = run(Repeating(), ("none", "none"), LONG)
    request.getfixturevalue("short")
    machine = Repeating()
    pieces, _ = run(machine, ("none", "none"), LONG)
    loads = [[step.variant for step in job.steps if isinstance(step, Load)] for job in machine.jobs]
    assert loads[-6:] == [["none"]] * 6
    assert pieces.results == whole.results


def test_variants_are_loaded_one_behind_the_other_however_many_cells_there_are(short):
    """What one of them leaves behind would not be seen otherwise."""
    assert [turn.cells for turn in schedule(("none", "both"), LONG)] == [LONG, LONG]
    assert not any(turn.alone for turn in schedule(("none", "both"), LONG))


def test_the_first_turn_has_the_facts_that_cells_are_labelled_by():
    """Where it ran without EPT, every (a) of the record would be taken for (e)."""
    off, plain = with_params(NO_EPT, {"kvm_intel.ept": "0"}), NO_EPT
    assert [turn.cells for turn in schedule(("none",), (off, NO_TDP_MMU, plain))] == [(plain,), (NO_TDP_MMU,), (off,)]
    assert [turn.cells for turn in schedule(("none",), (off, NO_TDP_MMU))] == [(NO_TDP_MMU,), (off,)]


def test_calls_carry_all_that_was_planned():
    machine = FakeMachine()
    run(machine, ("none", "both"), (NO_EPT, ALONE))
    calls = [step for step in machine.jobs[0].steps if isinstance(step, Call)]
    assert all(step.required for step in calls)
    assert {step.function for step in calls} == {EXECUTE}
    there = skylake()
    for step in calls:
        assert [cell["id"] for cell in step.args["cells"]] == ["a:3x3", "d:2"]
        assert step.args["parameters"] == there.facts.module_parameters
        assert step.args["offered"] == there.offered.to_json()
        assert {"function": "kvm_mmu_load"} in step.args["counters"]


def test_predictions_are_those_for_the_variant():
    record, _ = run(FakeMachine(), ("none", "both"), (NO_EPT,))
    loads = [(result.counts["kvm_mmu_load"], result.predicted.loads) for result in record.results]
    assert loads == [(2 * 48, 2 * 48), (0, 0)]


def test_a_variant_whose_kvm_offers_something_else_is_asked_and_runs_in_a_boot_of_its_own():
    asked = []

    def execute(emit, *, cells, parameters, **more):
        if machine.loader.variant == "both" and "kvm.new" not in parameters:
            emit({"differs": "parameters"})
            return
        machine._execute(emit, cells=cells)

    def probe(emit):
        asked.append(len(machine.jobs))
        emit(skylake(**({"new": "1"} if len(asked) > 1 else {})).to_json())

    machine = FakeMachine()
    machine.calls |= {EXECUTE: execute, campaign.surroundings_of.__globals__["PROBE"]: probe}
    record, heard = run(machine, ("none", "both", "none"), (NO_EPT,))
    assert asked == [0, 1]
    assert [len(job.steps) for job in machine.jobs] == [9, 3]
    assert [(r.variant, r.turn) for r in record.results] == [("none", 0), ("both", 1), ("none", 2)]
    assert all(result.error is None for result in record.results)
    assert heard[-1] == ("a:3x3", 3, 3)


def test_the_record():
    record, _ = run(FakeMachine(), ("none", "both"), (NO_EPT,))
    assert record.unit == UNIT_EMULATED
    assert record.host["emulator"] == "Fake 1.0 skylake"
    assert record.command == ("kvmharness", "validate")
    assert [variant.name for variant in record.variants] == ["none", "both"]
    again, _ = run(FakeMachine(), ("none", "both"), (NO_EPT,))
    assert replace(again, when=record.when) == record


def test_each_turn_loads_its_variant():
    machine = FakeMachine()
    run(machine, ("none", "both", "none"), (NO_EPT,))
    loads = [step.variant for job in machine.jobs for step in job.steps if isinstance(step, Load)]
    assert loads == ["none", "both", "none"]


@pytest.mark.parametrize("when", ["load", "unload"])
def test_what_the_kernel_logged_belongs_to_the_step_that_it_came_in(when):
    def warn(variant):
        if variant == "both":
            machine.log.lines.append("WARNING: CPU: 0 PID: 1 at arch/x86/kvm/mmu.c:12 f+0x1/0x2")

    machine = FakeMachine(FakeLoader(**{f"on_{when}": warn}))
    record, _ = run(machine, ("none", "both", "none"), (NO_EPT,))
    assert len(record.dmesg) == 1
    assert [result.dmesg for result in record.results] == [(), (), ()]
    assert record.logs == (StepLog("both", 1, when, record.dmesg),)
    (report,) = record.reports
    assert (report.variant, report.turn, report.step, report.place) == ("both", 1, when, "arch/x86/kvm/mmu.c:12")


def test_what_the_kernel_holds_more_after_a_variant_than_before_it():
    """The first load of a boot sets up things for good, so nothing is said of it."""

    class Holding(FakeLoader):
        held = iter(({"pages": 8, "kmalloc-4k": 1, "pid": 5}, {"pages": 8, "kmalloc-4k": 3}, {}, {"pages": 1}))

        def memory(self):
            return next(self.held) if self.variant != "probed" else {}

    record, _ = run(FakeMachine(Holding()), ("none", "both", "none", "both"), (NO_EPT, ALONE))
    assert record.leftovers == (Leftover("both", 1, 2, {"kmalloc-4k": 2, "pid": -5}),)


def test_one_variant_alone_is_not_asked_what_it_leaves_behind():
    machine = FakeMachine()
    run(machine, ("none", "none"), (NO_EPT,))
    assert not any(step.memory for step in machine.jobs[-1].steps if isinstance(step, Unload))


def test_what_the_kernel_logged_while_a_cell_ran_is_the_cells():
    def execute(emit, *, cells, **more):
        for number in range(2):
            emit({"begins": number, "doing": "counting"})
            machine.log.lines += ["counted"] * number
        for number, planned in enumerate(cells):
            emit({"begins": number, "doing": "timing"})
            machine.log.lines += ["timed"] * number
            emit(raw(number, Cell.parse(planned["id"])))

    machine = FakeMachine(calls={EXECUTE: execute})
    record, _ = run(machine, ("none",), (NO_EPT, ALONE))
    assert [result.dmesg for result in record.results] == [(), ("counted", "timed")]
    assert record.logs == ()


def test_what_the_kernel_says_of_our_own_doing_is_left_out():
    def say(variant):
        machine.log.lines += ["python3 (28): drop_caches: 3", "kvm: something else"]

    machine = FakeMachine(FakeLoader(on_unload=say))
    record, _ = run(machine, ("none",), (NO_EPT,))
    assert record.dmesg == ("kvm: something else",)


def test_a_bug_inside_shows_its_traceback():
    def crash(emit, **arguments):
        return {}["x"]

    with pytest.raises(StepFailedError, match="a bug: KeyError") as caught:
        run(FakeMachine(calls={EXECUTE: crash}), ("none",), (NO_EPT,))
    assert "in crash" in str(caught.value)
    assert caught.value.exit_code == ExitCode.LOST


def changed(**fields):
    return {**raw(0, NO_EPT), **fields}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ([], "no result for a:3x3"),
        ([changed(), changed(cell=1)], "a result for cell 1 where that of cell 1 was due|for cell 1"),
        ([changed(), changed()], "a result for cell 0"),
        ([changed(cell=1)], "a result for cell 1 where that of cell 0 was due"),
        ([{}], "result.cell: missing"),
        ([changed(cell="0")], "result.cell: expected an integer"),
        ([changed(surprise=3)], "unknown field 'surprise'"),
        ([changed(counts={"kvm_mmu_load": 10**400})], "kvm_mmu_load: expected 64 bits"),
        ([{"cell": 0, "mailbox": "no"}], "result.mailbox: expected bytes"),
    ],
)
def test_results_that_cannot_be_are_an_error_of_the_host(data, why):
    def forge(emit, **arguments):
        for one in data:
            emit(one)

    with pytest.raises(ProtocolError, match=why) as caught:
        run(FakeMachine(calls={EXECUTE: forge}), ("none",), (NO_EPT,))
    assert caught.value.exit_code == ExitCode.LOST


def here(**options):
    return run_here(
        (ALONE, NO_EPT),
        Plan(warmup=8, round_trips=60, batches=3, batch_round_trips=10),
        turns=2,
        oracle=None,
        command=("kvmharness", "run"),
        **{"on_result": lambda result, number, total: None, **options},
    )


def pretend(monkeypatch, execute):
    """A run here that executes this, wherever here is."""
    monkeypatch.setattr(campaign, "surroundings", skylake)
    monkeypatch.setattr("kvmharness.cells.execute.execute", execute)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_the_end_of_the_process_passes_through_a_run_here(monkeypatch, error):
    def end(emit, **arguments):
        raise error

    pretend(monkeypatch, end)
    with pytest.raises(error):
        here()


@pytest.mark.parametrize(
    ("error", "code"), [(KvmHarnessError("x"), ExitCode.LOST), (GuestError("x", "look"), ExitCode.FAIL)]
)
def test_what_a_run_here_raises_comes_out_with_its_exit_code(monkeypatch, error, code):
    def fail(emit, **arguments):
        raise error

    pretend(monkeypatch, fail)
    with pytest.raises(StepFailedError, match="call failed: x") as caught:
        here()
    assert (caught.value.exit_code, caught.value.hint) == (code, error.hint)


@pytest.mark.needs("kvm")
def test_a_run_on_this_machine():
    heard = []
    record = here(on_result=lambda result, number, total: heard.append((result.id, number, total)))
    assert record.unit == UNIT_TSC
    assert [(r.id, r.turn) for r in record.results] == [("d:2", 0), ("a:3x3", 0), ("d:2", 1), ("a:3x3", 1)]
    assert heard == [("d:2", 1, 4), ("a:3x3", 2, 4), ("d:2", 3, 4), ("a:3x3", 4, 4)]
    assert record.results[0].error is None
    assert record.variants[0].source == f"running kernel {record.host['kernel_release']}"
    assert record.host["guest_memory"] == "touched"
    assert record.host["pinned_to_cpu"] in os.sched_getaffinity(0)
    began = [result.began_s for result in record.results if result.samples]
    assert began == sorted(began)
    assert all(time.monotonic() - record.when.seconds - 1 < each < time.monotonic() for each in began)


@pytest.mark.needs("kvm")
def test_a_run_on_this_machine_finds_another_vm():
    neighbour = subprocess.Popen([sys.executable, "-c", ANOTHER_VM], stdout=subprocess.PIPE, text=True)
    try:
        assert neighbour.stdout.readline() == "there\n"
        notes = here().notes
    finally:
        neighbour.kill()
        neighbour.communicate()
    (found,) = [note for note in notes if note.startswith("other VMs: ")]
    assert f"({neighbour.pid})" in found
    assert f"({os.getpid()})" not in found


def test_what_spoils_figures_is_in_the_record_of_a_machine_that_watches(tmp_path):
    """Variants on this machine: with a fake one, as nobody's modules are replaced for a test."""

    class Watching(FakeMachine):
        def __init__(self, watch):
            super().__init__()
            self.watch = watch

    HostFiles(tmp_path).put("sys/devices/system/cpu/cpufreq/boost", "1")
    machine = Watching(Watch(memory=("locked",), root=str(tmp_path)))
    record, _ = run(machine, ("none", "both"), (NO_EPT,))
    assert any(note.startswith("turbo: on") for note in record.notes)
    assert record.host["guest_memory"] == "touched, locked"
    backings = [step.args["backing"] for job in machine.jobs for step in job.steps if isinstance(step, Call)]
    assert backings == [["locked"]] * 2


def test_nothing_is_touched_or_watched_in_an_emulated_host():
    machine = FakeMachine()
    record, _ = run(machine, ("none",), (NO_EPT,))
    assert record.notes == ()
    assert all("backing" not in step.args for job in machine.jobs for step in job.steps if isinstance(step, Call))
    assert record.results[0].began_s is None
