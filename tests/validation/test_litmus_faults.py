"""The named litmus tests can fail: a fault put into KVM is caught by those of the rule that it breaks.

A few of the faults are tried here, all of them by scripts/test --nightly: dozens of sets of modules are built for that.
"""

from collections import Counter

import pytest

from kvmharness.cells.matrix import select as cells
from kvmharness.lab.kernels import build
from kvmharness.lab.kernels.source import debian
from kvmharness.litmus.named.all import select
from kvmharness.litmus.named.entry import RULES
from kvmharness.patches.series import load
from kvmharness.results.tests import SKIP
from kvmharness.results.verdict import Outcome
from kvmharness.system.programs import MissingToolError
from kvmharness.validation.battery import litmus_tests
from kvmharness.validation.campaign import EMULATED_PLAN
from kvmharness.validation.litmus import settings
from kvmharness.validation.prepare import prepare
from kvmharness.validation.snapshots import emulated_host
from kvmharness.validation.together import Part, validate_on
from tests.validation.litmusfaults import check, every

HERE = (
    "invept-of-the-current-root-only",
    "mapped-writable-not-logged",
    "nested-ad-always",
    "vmfunc-keeps-the-root",
)
FAULTS = {fault.name: fault for fault in every()}


def test_every_rule_has_a_fault_and_a_test_of_it_that_must_tell():
    assert {fault.rule for fault in every()} == set(RULES)
    assert len(FAULTS) == len(every()) >= 25
    for fault in every():
        assert {program.rule for program in select(fault.tests)} == {fault.rule}, fault.name


def test_no_two_faults_are_the_same():
    assert [edits for edits, count in Counter(fault.edits for fault in every()).items() if count > 1] == []


def test_every_edit_applies_to_the_source():
    try:
        kernel = build.at_hand(debian())
    except MissingToolError as error:
        pytest.skip(f"{error}: {error.hint}")
    if kernel is None:
        pytest.skip("its kernel is not built: python -m kvmharness lab build")
    for fault in every():
        assert fault.overlay(kernel.tree)


@pytest.mark.slow
@pytest.mark.needs("emulated_vmx")
@pytest.mark.parametrize("name", HERE)
def test_a_fault_is_caught(name):
    check(FAULTS[name], tuple(map(FAULTS.get, HERE)))


@pytest.mark.slow
@pytest.mark.needs("emulated_vmx")
def test_a_validation_names_the_test_that_fails(tmp_path):
    """A series with one of them, as a folder with its patch: no other row of the verdict fails."""
    fault = FAULTS["invept-of-the-current-root-only"]
    (tmp_path / "0001.patch").write_text(fault.patch(build.kernel(debian()).tree))
    built = prepare(load(str(tmp_path)), debian())

    def machine_for(kernel):
        return emulated_host("vmx:skylake", kernel, at_once=2)

    chosen = settings("kvm_intel", frozenset({"kvm.tdp_mmu", "kvm_intel.ept"}))
    batteries = (litmus_tests(built, machine_for, chosen),)
    part = Part("vmx", machine_for, built, cells(("a:1x1",)), EMULATED_PLAN, batteries=batteries)
    seen = []
    found = validate_on(
        [part], turns=1, command=(), on_result=lambda *result: None, on_test=lambda *test: seen.append(test)
    )
    failing = [claim for claim in found.verdict.claims if claim.outcome is Outcome.FAIL]
    assert [claim.name for claim in failing] == ["litmus-tests-hold"]
    assert failing[0].figures[0].startswith("invept-previous-root p1: nested flushes: row 12, L2 read p0: d32 where")
    assert failing[0].figures[0].splitlines()[-1].endswith("d100      d32   <-- wrong")
    assert {test.variant for _, test in seen} == {"none", "p1"}
    assert len(seen) == sum(test.outcome != SKIP for test in found.records["vmx"].tests)
