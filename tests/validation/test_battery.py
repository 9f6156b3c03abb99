"""Suites put beside what was measured: which variants, on which machine, and what a record has already."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from kvmharness.lab.kernels.selftests import Selftests
from kvmharness.results.incidents import Loss
from kvmharness.results.tests import LITMUS, SELFTESTS, TestResult
from kvmharness.validation.battery import selftests_of, with_suites
from tests import builders
from tests.machines import FakeMachine
from tests.validation.campaigns import BOTH, NO_EPT, NONE
from tests.validation.test_suites import Shell, names_of

RECORD = builders.record([NO_EPT], variants=("none", "both"))


def built(one_boot=True, prefixes=("none", "both")):
    kernels = {"none": "kernel", "both": "kernel" if one_boot else "another"}
    subject = SimpleNamespace(prefixes=prefixes)
    return SimpleNamespace(variants=(NONE, BOTH), kernels=kernels, one_boot=one_boot, subject=subject)


@pytest.mark.parametrize(("one_boot", "booted"), [(True, ["kernel"]), (False, ["kernel", "another"])])
def test_every_judged_variant_runs_on_the_machine_of_its_kernel(one_boot, booted):
    asked, heard = [], []

    def machine_for(kernel):
        asked.append(kernel)
        return FakeMachine()

    record = with_suites(RECORD, built(one_boot), machine_for, lambda variant: [Shell("a")], [()], heard.append)
    assert asked == booted
    assert [(test.variant, test.name) for test in record.tests] == [
        *(("none", "a: said"), ("none", "a"), ("both", "a: said"), ("both", "a"))
    ]
    assert record.tests == tuple(heard)


def test_neither_what_is_not_judged_nor_what_was_lost():
    lost = replace(RECORD, losses=(Loss("both", 0, "load", "KernelPanicError", "x"),))
    for record, there in ((lost, built()), (RECORD, built(prefixes=("none",)))):
        heard = []
        with_suites(record, there, lambda kernel: FakeMachine(), lambda v: [Shell("a")], [()], heard.append)
        assert {test.variant for test in heard} == {"none"}


def test_selftests_are_those_of_a_variant_s_own_tree(tmp_path, monkeypatch):
    asked = []

    def build(tree, overlay, *, progress):
        asked.append((tree, overlay))
        return Selftests({}, {"x": "it does not build"})

    monkeypatch.setattr("kvmharness.validation.battery.build", build)
    plan = SimpleNamespace(variants=(SimpleNamespace(name="both", files={"a": b"b"}),))
    tests_for = selftests_of(SimpleNamespace(plan=plan, kernels={"both": SimpleNamespace(tree=tmp_path)}))
    assert [test.name for test in tests_for(BOTH)] == ["x"]
    assert asked == [(tmp_path, {"a": b"b"})]


def test_what_the_record_has_stays_and_is_not_run_again():
    before = (TestResult(LITMUS, "x", "none"), TestResult(SELFTESTS, "a", "none", outcome="fail", why="once"))
    machine = FakeMachine()
    tests = [Shell("a", ": a"), Shell("b", ": b")]
    record = replace(RECORD, tests=before)
    found = with_suites(record, built(), lambda kernel: machine, lambda v: tests, [()], lambda test: None)
    assert sorted(map(names_of, machine.jobs)) == [[": a", ": b"], [": b"]]
    assert found.tests[:2] == before
    assert len({(test.battery, test.variant, test.label) for test in found.tests}) == len(found.tests)
