"""Suites on a fake machine whose executor is the real one: variants, settings, lost hosts, what is known already."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kvmharness.errors import LostMachineError
from kvmharness.lab.inside.modules import ModuleError
from kvmharness.lab.job import HangError, KernelPanicError, ProtocolError, StepFailedError
from kvmharness.lab.steps import Call, Exec, Load
from kvmharness.results.record import VariantId
from kvmharness.results.tests import SELFTESTS, TestResult
from kvmharness.suites.test import Line
from kvmharness.validation import suites
from kvmharness.validation.campaign import Variant
from kvmharness.validation.suites import run_suites, run_suites_here
from tests.machines import FakeLoader, FakeMachine

NONE, P1 = (Variant(VariantId(name, "6.1"), Path(f"/modules/{name}")) for name in ("none", "p1"))
NO_TDP_MMU = (("kvm.tdp_mmu", "N"),)


@dataclass(frozen=True)
class Shell:
    """A test that is a line of shell; it has a line of its own besides."""

    name: str
    script: str = "true"
    missing: str = ""
    params: tuple = ()
    alone: bool = False
    files: dict = field(default_factory=dict)
    timeout_s: float = 5.0
    battery = SELFTESTS

    def step(self, *, inside):
        return Exec(("/bin/sh", "-c", self.script), self.timeout_s)

    def judged(self, ran):
        outcome = ran.lost or ("pass" if ran.ended and ran.ended.status == 0 else "fail")
        why = ran.why or ran.failed or (f"status {ran.ended.status}" if outcome == "fail" else "")
        return (Line(f"{self.name}: said", outcome), Line(self.name, outcome, why, (*ran.output.split(), *ran.table)))


def whole(found):
    """(variant, setting, test) -> (outcome, why), of tests as a whole."""
    rows = [each for each in found.tests if ":" not in each.name]
    return {(each.variant, tuple(each.params.items()), each.name): (each.outcome, each.why) for each in rows}


def names_of(job):
    """The scripts of a job's tests."""
    return [step.argv[2] for step in job.steps if isinstance(step, Exec)]


def run(machine, tests, variants=(NONE,), settings=((),), **options):
    return run_suites(machine, variants, settings, lambda variant: tests, **options)


def dies(*deaths):
    """Ends the machine in a test of this script, once for each time that it is named, in that order."""
    left = list(deaths)

    def now(number, step):
        for each in left:
            if isinstance(step, Exec) and step.argv[2] == each[0]:
                left.remove(each)
                raise each[1]

    return now


def test_every_variant_and_setting_in_order_and_each_result_as_it_comes():
    heard, machine = [], FakeMachine()
    tests = [Shell("good", "echo some words"), Shell("bad", "echo much; exit 3")]
    found = run(machine, tests, (NONE, P1), ((), NO_TDP_MMU), on_test=heard.append)
    assert list(found.tests) == heard
    assert list(whole(found).items())[:3] == [
        (("none", (), "good"), ("pass", "")),
        (("none", (), "bad"), ("fail", "status 3")),
        (("none", NO_TDP_MMU, "good"), ("pass", "")),
    ]
    assert len(found.tests) == 2 * 2 * 2 * 2
    assert found.tests[3].table == ("much",)
    loads = [step for job in machine.jobs for step in job.steps if isinstance(step, Load)]
    assert [(load.variant, load.params) for load in loads] == [
        *(("none", {}), ("none", {"kvm.tdp_mmu": "N"})),
        *(("p1", {}), ("p1", {"kvm.tdp_mmu": "N"})),
    ]


def test_a_test_s_own_parameters_win_and_the_setting_is_what_the_result_names():
    machine = FakeMachine()
    tests = [Shell("plain"), Shell("own", params=(("kvm.tdp_mmu", "Y"), ("kvm.more", "1")))]
    found = run(machine, tests, settings=(NO_TDP_MMU,))
    assert set(whole(found)) == {("none", NO_TDP_MMU, "plain"), ("none", NO_TDP_MMU, "own")}
    loads = [step.params for job in machine.jobs for step in job.steps if isinstance(step, Load)]
    assert loads == [{"kvm.tdp_mmu": "N"}, {"kvm.more": "1", "kvm.tdp_mmu": "Y"}]


def test_what_is_missing_is_skipped_with_the_reason_and_costs_no_host():
    machine = FakeMachine()
    assert whole(run(machine, [Shell("a", missing="it does not build: x")])) == {
        ("none", (), "a"): ("skip", "it does not build: x")
    }
    assert machine.jobs == []


PANIC = KernelPanicError("panicked", console=("[    1.5] Oops: 0000 [#1] PREEMPT", "[    1.6] RIP: 0010:bad+0x1/0x9"))


@pytest.mark.parametrize(
    ("error", "outcome", "why"),
    [
        (PANIC, "panic", "the kernel went down: Oops: 0000 [#1] PREEMPT"),
        (HangError("silent for 14 s, stopped; last heard of in step 2"), "hang", "the host hangs"),
        (LostMachineError("the emulated host ended (status 1)"), "panic", "the host went down without a word"),
    ],
)
def test_a_test_that_takes_the_host_down_and_the_others_go_on_in_another(error, outcome, why):
    machine = FakeMachine(dies=dies(("exit 1", error)))
    found = run(machine, [Shell("first"), Shell("second", "exit 1"), Shell("third", "exit 0")])
    assert list(whole(found).values()) == [("pass", ""), (outcome, why), ("pass", "")]
    assert list(map(names_of, machine.jobs)) == [["true", "exit 1", "exit 0"], ["exit 0"]]
    assert ("RIP: 0010:bad+0x1/0x9" in found.tests[3].table) is (error is PANIC)


def test_under_another_variant_a_lost_host_is_believed_when_it_is_lost_again():
    twice = [("exit 1", HangError("silent"))] * 2
    tests = [Shell("first"), Shell("second", "exit 1")]
    machine = FakeMachine(dies=dies(*twice))
    machine.loader = FakeLoader()
    known = [TestResult(SELFTESTS, name, "none") for name in ("first", "second")]
    found = run(machine, tests, (NONE, P1), known=known)
    assert whole(found)["p1", (), "second"] == ("hang", "the host hangs")
    assert list(map(names_of, machine.jobs)) == [["true", "exit 1"], ["exit 1"]]
    assert machine.jobs[1].silence_s > 2 * machine.jobs[0].silence_s
    once = FakeMachine(dies=dies(twice[0]))
    assert whole(run(once, tests, (NONE, P1), known=known))["p1", (), "second"] == ("fail", "status 1")


def test_what_is_lost_under_the_first_variant_is_not_tried_twice_under_the_others():
    machine = FakeMachine(dies=dies(*[("exit 1", HangError("silent"))] * 2))
    found = run(machine, [Shell("only", "exit 1")], (NONE, P1))
    assert [test.outcome for test in found.tests if ":" not in test.name] == ["hang", "hang"]
    assert len(machine.jobs) == 2


def test_the_base_may_have_run_before():
    machine = FakeMachine(dies=dies(("exit 1", HangError("silent"))))
    known = [TestResult(SELFTESTS, "only", "none", outcome="panic", why="Oops")]
    run(machine, [Shell("only", "exit 1")], (P1,), known=known, base="none")
    assert len(machine.jobs) == 1


def test_a_variant_that_loses_every_host_is_given_up():
    tests = [Shell(f"t{number}", f"exit {number}") for number in range(40)]
    machine = FakeMachine(dies=lambda number, step: (_ for _ in ()).throw(PANIC) if isinstance(step, Exec) else None)
    found = [each for each in run(machine, tests).tests if ":" not in each.name]
    assert [each.outcome for each in found] == ["panic"] * 16 + ["skip"] * 24
    assert found[-1].why == "given up after 16 lost hosts"


def test_modules_that_do_not_load_cost_the_tests_that_asked_for_them():
    class Refuses(FakeLoader):
        def load(self, step):
            if "kvm.odd" in step.params:
                raise ModuleError("insmod kvm.ko odd=1: Invalid argument")
            return super().load(step)

    found = run(FakeMachine(Refuses()), [Shell("odd", params=(("kvm.odd", "1"),)), Shell("plain")])
    why = "KVM's modules do not load: insmod kvm.ko odd=1: Invalid argument"
    assert list(whole(found).values()) == [("skip", why), ("pass", "")]


def test_an_answer_that_cannot_be_ends_it():
    with pytest.raises(ProtocolError):
        run(FakeMachine(forge=lambda payload: [payload, payload]), [Shell("a")])


def test_a_host_that_never_boots_is_lost_for_reasons_of_its_own():
    def boot(number, step):
        raise LostMachineError("no emulator")

    with pytest.raises(LostMachineError, match="no emulator"):
        run(FakeMachine(dies=boot), [Shell("a")])


def test_a_job_that_is_wrong_itself_is_an_error():
    class Broken(FakeMachine):
        def run(self, job, on_event):
            from kvmharness.lab.events import Failed

            raise StepFailedError(job.steps[0], Failed(0, "ValueError", "x"))

    with pytest.raises(StepFailedError):
        run(Broken(), [Shell("a")])


def test_tests_that_want_a_host_of_their_own_and_what_a_restored_host_can_take(tmp_path, monkeypatch):
    monkeypatch.setattr(suites, "_FILES_BYTES", 100)
    for name in "abc":
        (tmp_path / name).write_bytes(bytes(40))
    tests = [Shell(name, f": {name}", files={name: tmp_path / name}) for name in "abc"]
    machine = FakeMachine()
    run(machine, [*tests, Shell("alone", ": alone", alone=True)])
    assert sorted(map(names_of, machine.jobs)) == [[": a", ": b"], [": alone"], [": c"]]
    assert {name for job in machine.jobs for name in job.files} == set("abc")


def test_what_is_known_is_not_run_again_but_half_of_a_test_is():
    known = [
        TestResult(SELFTESTS, "done: said", "none", outcome="fail"),
        TestResult(SELFTESTS, "done", "none", outcome="fail", why="once"),
        TestResult(SELFTESTS, "half: said", "none"),
    ]
    machine, heard = FakeMachine(), []
    found = run(machine, [Shell("done", "exit 1"), Shell("half", "exit 2")], known=known, on_test=heard.append)
    assert list(map(names_of, machine.jobs)) == [["exit 2"]]
    assert [each.name for each in found.tests] == ["done: said", "done", "half: said", "half"]
    assert found.tests[:2] == tuple(known[:2])
    assert len(heard) == 2


def test_what_the_kernel_said_is_kept():
    machine = FakeMachine()
    machine.log.lines = ["kvm: a word"]
    (log,) = run(machine, [Shell("a")]).logs
    assert (log.variant, log.lines) == ("none", ("kvm: a word",))


def test_what_a_called_function_emits_goes_to_its_test():
    class Called(Shell):
        def step(self, *, inside):
            return Call("tests.validation.test_suites:emitting", {"number": 7})

        def judged(self, ran):
            return (Line(self.name, "fail", f"{ran.data} {ran.ended} {ran.failed}"),)

    (result,) = run(FakeMachine(), [Called("a")]).tests
    assert result.why == "[{'number': 7}] None "


def emitting(emit, number):
    emit({"number": number})


@pytest.mark.skipif(not os.path.exists("/dev/kvm"), reason="there is no /dev/kvm")
def test_here_they_run_on_this_kernel():
    tests = [Shell("good"), Shell("bad", "exit 3"), Shell("asks", params=(("kvm.nothing", "1"),))]
    assert list(whole(run_suites_here(tests)).values()) == [
        *(("pass", ""), ("fail", "status 3")),
        ("skip", "it asks for kvm.nothing=1, and KVM is loaded otherwise"),
    ]
