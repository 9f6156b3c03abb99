"""A fault that one selftest sees, and no litmus test: it fails by name under the series, and not without it."""

import pytest

from kvmharness.cells.matrix import select
from kvmharness.claims.suites import held
from kvmharness.lab.kernels.source import debian
from kvmharness.patches.series import load
from kvmharness.results.tests import BAD, FAIL, LITMUS, PASS, SELFTESTS, of_variant
from kvmharness.results.verdict import Outcome
from kvmharness.validation.battery import selftests_of, with_litmus, with_suites
from kvmharness.validation.prepare import prepare
from kvmharness.validation.snapshots import emulated_host
from kvmharness.validation.validate import measure
from tests.folders import SUITE_FAULTS

# Of each the test that sees it, and where that says so.
SEEN_BY = {"platform-info-always-readable": ("x86_64/platform_info_test", "Exit_reason other than KVM_EXIT_SHUTDOWN")}
# Beside that test, some that pass and some that an emulator can do nothing with.
OTHERS = ("set_sregs_test", "debug_regs", "userspace_msr_exit_test", "xss_msr_test")


def test_every_fault_is_tried():
    assert {folder.name for folder in SUITE_FAULTS.iterdir()} == SEEN_BY.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEN_BY)
@pytest.mark.parametrize(
    "host",
    [
        pytest.param("vmx:skylake", marks=pytest.mark.needs("emulated_vmx")),
        pytest.param("svm:epyc", marks=pytest.mark.needs("emulated_svm")),
    ],
)
def test_only_its_selftest_fails(name, host):
    by, said = SEEN_BY[name]
    built = prepare(load(str(SUITE_FAULTS / name)), debian())
    every = selftests_of(built)
    chosen = [f"x86_64/{other}" for other in OTHERS]

    def machine_for(kernel):
        return emulated_host(host, kernel, at_once=2)

    def tests_for(variant):
        return [test for test in every(variant) if test.name in (by, *chosen)]

    record = measure(built, machine_for, select(("a:1x1",)))
    record = with_litmus(record, built, machine_for, lambda test: None)
    record = with_suites(record, built, machine_for, tests_for, [()], lambda test: None)
    assert [test.label for test in record.tests if test.battery == LITMUS and test.outcome in BAD] == []
    with_it = {test.name: test for test in of_variant(record.tests, SELFTESTS, "p1")}
    without = {test.name: test for test in of_variant(record.tests, SELFTESTS, "none")}
    assert (without[by].outcome, with_it[by].outcome) == (PASS, FAIL)
    assert said in with_it[by].why
    assert {name: with_it[name].why for name in chosen} == {name: without[name].why for name in chosen}
    tests = [test for test in record.tests if test.battery == SELFTESTS]
    failed = [finding for finding in held(tests, "none", ("p1",)) if finding.outcome is Outcome.FAIL]
    assert [finding.cell for finding in failed] == [by]
