"""The debug-kernel pass on the fake machine: the first report counts, whole, whatever comes of the guest."""

from dataclasses import replace

import pytest

from kvmharness.cells.cell import Cell, Setup, with_params
from kvmharness.cells.matrix import validation_matrix
from kvmharness.cells.turn import EXECUTE
from kvmharness.errors import LostMachineError
from kvmharness.guest.watchdog import GuestHungError
from kvmharness.lab.inside.modules import ModuleError
from kvmharness.lab.job import HangError, KernelPanicError
from kvmharness.lab.steps import Exec, Exited, Load, Unload
from kvmharness.litmus.named.all import every
from kvmharness.results.tests import FAIL, PASS, SKIP
from kvmharness.validation.debugkernel import DebugPass, leaked
from kvmharness.validation.exercises import a_few, settings
from kvmharness.validation.prepare import Broken
from tests.folders import KERNEL_LOGS
from tests.machines import FakeLoader, FakeMachine
from tests.validation.test_validate import built

A33, D5 = Cell(Setup.NO_EPT, 3, 3), Cell(Setup.L1_ALONE, 5, guest_cr3s=0)
CELLS = (A33, D5, with_params(A33, {"kvm.tdp_mmu": "N"}))
LITMUS_EXECUTE = "kvmharness.litmus.execute:execute"
EXEC = "kvmharness.lab.inside.execute:execute"


def lines(log):
    return (KERNEL_LOGS / f"{log}.txt").read_text().splitlines()


def run(machine, *, series=None, cells=CELLS, programs=(), leaks=False):
    series = series or built(("none", "p1", "both"))
    found = DebugPass(lambda kernel: machine, series, cells, programs, leaks).run(lambda said: None)
    return {test.variant: test for test in found}


def says(*logs, during, variant="p1"):
    """A machine whose kernel reports something while a cell of a variant runs."""

    def dies_in(*now):
        if now == (variant, during, "timing"):
            machine.log.lines += [line for log in logs for line in lines(log)]

    machine = FakeMachine(dies_in=dies_in)
    return machine


def test_a_kernel_that_has_nothing_to_say_passes_with_a_host_for_each_variant():
    machine = FakeMachine()
    assert {name: test.outcome for name, test in run(machine).items()} == dict.fromkeys(("none", "p1", "both"), PASS)
    assert [len(job.modules) for job in machine.jobs] == [1, 1, 1]
    loads = [step.params for step in machine.jobs[0].steps if isinstance(step, Load)]
    assert loads == [{}, {"kvm.tdp_mmu": "N"}]


def test_the_first_report_is_the_answer_with_all_of_its_text():
    found = run(says("kasan", "lockdep", during="d:5"))
    assert (found["none"].outcome, found["both"].outcome) == (PASS, PASS)
    p1 = found["p1"]
    assert (p1.outcome, p1.name) == (FAIL, "d:5")
    assert p1.why.startswith("BUG: KASAN: slab-out-of-bounds in kvm_vcpu_after_set_cpuid")
    assert p1.table[: len(lines("kasan")) - 1] == tuple(lines("kasan")[1:])


def test_what_is_reported_before_a_cell_begins_is_not_the_load():
    def execute(emit, *, cells, **more):
        machine.log.lines += lines("kasan") if machine.loader.variant == "p1" else []
        emit({"begins": 0, "doing": "counting"})
        raise LostMachineError("not reached for p1")

    machine = FakeMachine(calls={EXECUTE: execute})
    assert run(machine)["p1"].name == "before the first cell"


def test_nothing_is_run_behind_a_report():
    seen = []
    machine = says("sleeping", during="a:3x3")
    machine.dies = lambda number, step: seen.append((machine.loader.variant, type(step)))
    run(machine)
    assert ("none", Unload) in seen
    assert ("p1", Unload) not in seen


def test_a_report_outranks_the_guest_that_hangs_with_it():
    def execute(emit, *, cells, **more):
        emit({"begins": 0, "doing": "counting"})
        if machine.loader.variant == "p1":
            machine.log.lines += lines("lockdep")
        for number in range(len(cells)):
            emit({"cell": number, "error": {"type": GuestHungError.__name__, "message": "no doorbell for 30 s"}})

    machine = FakeMachine(calls={EXECUTE: execute})
    found = run(machine)
    assert found["p1"].why == "WARNING: possible circular locking dependency detected"
    none = found["none"]  # without a report that is the answer
    assert (none.name, none.why, none.table) == ("a:3x3", "GuestHungError: no doorbell for 30 s", ())


@pytest.mark.parametrize("error", [KernelPanicError, HangError])
def test_of_a_kernel_that_goes_down_the_report_before_that_is_the_answer(error):
    def dies_in(*now):
        if now == ("p1", "a:3x3", "counting"):
            console = ("[    9.5] Kernel command line: quiet", *lines("kasan"), "Kernel panic - not syncing: Fatal")
            raise error("it is gone", console=console)

    p1 = run(FakeMachine(dies_in=dies_in))["p1"]
    assert (p1.outcome, p1.name, p1.why[:10]) == (FAIL, "a:3x3", "BUG: KASAN")


def test_a_kernel_that_goes_down_without_a_word_has_failed():
    def dies_in(*now):
        if now == ("p1", "a:3x3", "counting"):
            raise HangError("not done after 480 s, stopped")

    p1 = run(FakeMachine(dies_in=dies_in))["p1"]
    assert (p1.outcome, p1.why, p1.table) == (FAIL, "not done after 480 s, stopped", ())


def test_modules_that_do_not_load_have_failed():
    def refuse(variant):
        if variant == "p1":
            raise ModuleError("insmod: Invalid argument")

    p1 = run(FakeMachine(FakeLoader(on_load=refuse)))["p1"]
    assert (p1.outcome, p1.name) == (FAIL, "load")
    assert "Invalid argument" in p1.why


def test_a_host_that_is_lost_for_its_own_reasons_is_no_answer_about_the_variant():
    def dies_in(*now):
        if now == ("p1", "a:3x3", "counting"):
            raise LostMachineError("the emulator was killed")

    found = run(FakeMachine(dies_in=dies_in))
    assert (found["p1"].outcome, found["p1"].why) == (SKIP, "the emulator was killed")
    assert found["both"].outcome == PASS


def test_a_kernel_that_does_not_come_up_is_no_answer_about_any_variant():
    class Dead(FakeMachine):
        def run(self, job, on_event):
            raise LostMachineError("the emulator was killed")

    assert {test.outcome for test in run(Dead()).values()} == {SKIP}


def test_a_prefix_that_does_not_build_there_has_failed():
    series = built(("none",))
    broken = (Broken("p1", "First", ("mmu.c:1: error: no lockdep_map",), True),)
    p1 = run(FakeMachine(), series=replace(series, broken=broken))["p1"]
    assert (p1.outcome, p1.table) == (FAIL, ("mmu.c:1: error: no lockdep_map",))


def test_what_nothing_points_at_is_looked_for_before_the_modules_are_gone():
    text = (KERNEL_LOGS / "kmemleak.txt").read_text()
    scans = []

    def execute(step, send):
        scans.append((machine.loader.variant, step.argv[-1]))
        if "scan" in step.argv[-1] and machine.loader.variant == "p1":
            send(text)
        return Exited(0, None, False)

    machine = FakeMachine(calls={EXEC: execute})
    found = run(machine, leaks=True)
    assert (found["none"].outcome, found["p1"].outcome) == (PASS, FAIL)
    place = "handle_vmxon+0x2f1/0x4b0 [kvm_intel]"
    assert found["p1"].why == f"unreferenced object 0xffff888002f4a000 (size 4096), allocated by {place}"
    assert found["p1"].table[: len(leaked(text))] == leaked(text)
    steps = [type(step) for step in machine.jobs[0].steps]
    assert steps[0] is Exec
    assert all(steps[number - 1] is Exec for number, step in enumerate(steps) if step is Unload)


def test_litmus_tests_are_done_in_each_load_and_are_not_judged():
    calls = []

    def execute(emit, *, programs, **more):
        calls.append((machine.loader.variant, machine.loader.params, len(programs)))
        emit({"begins": 0})
        if machine.loader.variant == "p1" and machine.loader.params:
            machine.log.lines += lines("lockdep")
        emit({"test": 0, "answers": "whatever"})

    machine = FakeMachine(calls={LITMUS_EXECUTE: execute})
    found = run(machine, programs=every()[:3])
    assert calls[:2] == [("none", {}, 1), ("none", {"kvm.tdp_mmu": "N"}, 1)]  # all in one VM
    assert (found["none"].outcome, found["p1"].outcome, found["p1"].name) == (PASS, FAIL, "litmus")


def test_litmus_tests_that_break_off_have_failed():
    def execute(emit, **more):
        emit({"begins": 0})
        emit({"test": 0, "error": {"type": "GuestHungError", "message": "no doorbell"}})

    found = run(FakeMachine(calls={LITMUS_EXECUTE: execute}), programs=every()[:3])
    assert found["p1"].outcome == FAIL
    assert "no doorbell" in found["p1"].why


def test_objects_that_kvm_did_not_allocate_are_not_its_leaks():
    found = leaked((KERNEL_LOGS / "kmemleak.txt").read_text())
    assert sum(line.startswith("unreferenced object") for line in found) == 1
    assert any("handle_vmxon" in line for line in found)
    assert leaked("") == ()


def test_a_few_of_the_usual_cells_are_one_of_each_kind():
    few = a_few(validation_matrix())
    assert 10 <= len(few) <= 16
    assert {cell.setup for cell in few} == {cell.setup for cell in validation_matrix()}
    assert [dict(params) for params in settings(few)] == [{}, {"kvm.tdp_mmu": "N"}, {"kvm_intel.ept": "0"}]
    assert a_few((A33, Cell(Setup.NO_EPT, 1, 1), D5)) == (A33, D5)
