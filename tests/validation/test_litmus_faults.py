"""The named litmus tests can fail: a fault put into KVM is caught by those of the rule that it breaks.

A few of the faults are tried here, all of them by scripts/test --nightly: dozens of sets of modules are built for that.
"""

from collections import Counter

import pytest

from kvmharness.lab.kernels import build
from kvmharness.lab.kernels.source import debian
from kvmharness.litmus.named.all import select
from kvmharness.litmus.named.entry import RULES
from kvmharness.system.programs import MissingToolError
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
