"""Suites put beside what was measured: which variants, on which machine, and what a record has already."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from kvmharness.lab.job import KernelPanicError
from kvmharness.lab.steps import Exec
from kvmharness.results.incidents import Loss
from kvmharness.results.record import VariantId
from kvmharness.results.tests import LITMUS, SELFTESTS, TestResult
from kvmharness.validation.battery import differences, suite
from kvmharness.validation.campaign import Variant
from tests import builders
from tests.machines import FakeMachine
from tests.validation.campaigns import BOTH, NO_EPT, NONE
from tests.validation.test_suites import Shell, names_of

RECORD = builders.record([NO_EPT], variants=("none", "both"))


def built(one_boot=True, prefixes=("none", "both")):
    kernels = {"none": "kernel", "both": "kernel" if one_boot else "another"}
    subject = SimpleNamespace(prefixes=prefixes)
    return SimpleNamespace(variants=(NONE, BOTH), kernels=kernels, one_boot=one_boot, subject=subject)


def ran(tests, settings=((),), record=RECORD, there=None, known=(), machine_for=lambda kernel: FakeMachine()):
    """What the battery gives, and what was heard of it."""
    heard = []
    there = there or built()
    battery = suite("x", there, machine_for, settings, dict.fromkeys(("none", "mid", "both"), tests))
    return battery.run(record, known, heard.append).tests, heard


@pytest.mark.parametrize(("one_boot", "booted"), [(True, ["kernel"]), (False, ["kernel", "another"])])
def test_every_judged_variant_runs_on_the_machine_of_its_kernel(one_boot, booted):
    asked = []

    def machine_for(kernel):
        asked.append(kernel)
        return FakeMachine()

    found, heard = ran([Shell("a")], there=built(one_boot), machine_for=machine_for)
    assert asked == booted
    assert [(test.variant, test.name) for test in found] == [
        *(("none", "a: said"), ("none", "a"), ("both", "a: said"), ("both", "a"))
    ]
    assert found == tuple(heard)


def test_neither_what_is_not_judged_nor_what_was_lost():
    lost = replace(RECORD, losses=(Loss("both", 0, "load", "KernelPanicError", "x"),))
    for record, there in ((lost, built()), (RECORD, built(prefixes=("none",)))):
        found, _ = ran([Shell("a")], record=record, there=there)
        assert {test.variant for test in found} == {"none"}


def test_what_is_known_is_not_run_again():
    known = (TestResult(LITMUS, "x", "none"), TestResult(SELFTESTS, "a", "none", outcome="fail", why="once"))
    machine = FakeMachine()
    found, _ = ran([Shell("a", ": a"), Shell("b", ": b")], known=known, machine_for=lambda kernel: machine)
    assert sorted(map(names_of, machine.jobs)) == [[": a", ": b"], [": b"]]
    assert found[0] == known[1]


def test_other_settings_are_for_the_ends_and_prefixes_between_them_for_what_differs():
    mid = Variant(VariantId("mid", "6.1"), Path("/modules/mid"))
    there = built(prefixes=("none", "mid", "both"))
    there.variants = (NONE, mid, BOTH)
    there.kernels["mid"] = "kernel"
    tests = [Shell("same", ": same"), Shell("other", ": other")]
    machine = FakeMachine()

    def dies(number, step):
        other = isinstance(step, Exec) and step.argv[2] == ": other"
        if other and machine.loader.variant != "none" and machine.loader.params:
            raise KernelPanicError("panicked")

    machine.dies = dies
    off = (("kvm.tdp_mmu", "N"),)
    found, _ = ran(tests, settings=((), off), there=there, machine_for=lambda kernel: machine)
    whole = [test for test in found if ":" not in test.name]
    assert [(test.variant, test.name, test.outcome) for test in whole if not test.params] == [
        (variant, test.name, "pass") for variant in ("none", "mid", "both") for test in tests
    ]
    assert [(test.variant, test.name, test.outcome) for test in whole if test.params] == [
        ("none", "same", "pass"),
        ("none", "other", "pass"),
        ("both", "same", "pass"),
        ("both", "other", "panic"),
        ("mid", "other", "panic"),
    ]


def test_what_differs_is_what_came_out_and_why():
    def result(variant, name, outcome="pass", why=""):
        return TestResult(SELFTESTS, name, variant, outcome=outcome, why=why)

    same = [result(variant, "same", "fail", "line 3") for variant in ("none", "p1")]
    other = [result("none", "other", "fail", "line 3"), result("p1", "other", "fail", "line 4")]
    gone, new = result("none", "vmx: gone"), result("p1", "new")
    found = differences([*same, *other, gone, new], "none")
    assert found == [other[1], gone, new]


def test_what_fails_without_the_series_is_not_asked_under_other_settings():
    off = (("kvm.tdp_mmu", "N"),)
    found, _ = ran([Shell("good", "true"), Shell("bad", "exit 1")], settings=((), off))
    whole = [test for test in found if ":" not in test.name]
    assert {(test.variant, test.name) for test in whole if test.params} == {("none", "good"), ("both", "good")}
    assert {(test.variant, test.name) for test in whole if not test.params} == {
        (variant, name) for variant in ("none", "both") for name in ("good", "bad")
    }
