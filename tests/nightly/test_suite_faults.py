"""Faults that one test of a suite sees, and nothing else does: with the series it fails by name, without it not."""

import pytest

from kvmharness.cells.matrix import select
from kvmharness.lab.kernels.selftests import build
from kvmharness.lab.kernels.source import debian
from kvmharness.patches.series import load
from kvmharness.results.tests import SELFTESTS, UNIT_TESTS
from kvmharness.results.verdict import Outcome
from kvmharness.suites.selftests import selftests
from kvmharness.suites.unittests.tree import read_tree
from kvmharness.validation.battery import litmus_tests, suite
from kvmharness.validation.campaign import EMULATED_PLAN
from kvmharness.validation.prepare import prepare
from kvmharness.validation.snapshots import emulated_host
from kvmharness.validation.together import Part, validate_on
from tests.folders import SUITE_FAULTS
from tests.suites.unittests import images
from tests.suites.unittests.trees import tree

# Of each the claim that fails, the test that sees it, and what that says.
SEEN_BY = {
    "platform-info-always-readable": (
        "selftests-hold",
        "x86_64/platform_info_test",
        "Exit_reason other than KVM_EXIT_SHUTDOWN",
    ),
    "timer-status-without-its-mode": ("unit-tests-hold", "timer: the timer says its mode", "fail"),
}
# Beside the test, some that pass and some that an emulator can do nothing with.
SELF = ("platform_info_test", "set_sregs_test", "debug_regs", "userspace_msr_exit_test", "xss_msr_test")
IMAGES = {
    "timer": images.READS_THE_TIMER_BACK,
    "devices": images.DEVICES,
    "fails": images.reporting("FAIL: always\n", 1),
}


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
def test_only_the_test_that_sees_it_fails(name, host, tmp_path):
    claim, by, said = SEEN_BY[name]
    built = prepare(load(str(SUITE_FAULTS / name)), debian())
    files = {variant.name: variant.files for variant in built.plan.variants}

    def machine_for(kernel):
        return emulated_host(host, kernel, at_once=2)

    def tests_of(variant):
        made = build(built.kernels[variant].tree, files[variant])
        return [test for test in selftests(made) if test.name.removeprefix("x86_64/") in SELF]

    names = [variant.id.name for variant in built.variants]
    units = read_tree(tree(tmp_path, {f"{each}.flat": image for each, image in IMAGES.items()}))
    batteries = (
        litmus_tests(built, machine_for, [()]),
        suite(SELFTESTS, built, machine_for, [()], {variant: tests_of(variant) for variant in names}),
        suite(UNIT_TESTS, built, machine_for, [()], dict.fromkeys(names, units)),
    )
    part = Part(host, machine_for, built, select(("a:1x1",)), EMULATED_PLAN, batteries=batteries)
    found = validate_on([part], turns=1, command=(), on_result=lambda *result: None)
    (failed,) = [each for each in found.verdict.claims if each.outcome is Outcome.FAIL]
    assert (failed.name, failed.variants) == (claim, ("p1",))
    assert {cell.partition(":")[0] for cell in failed.cells} == {by.partition(":")[0]}
    (line,) = [figure.splitlines()[0] for figure in failed.figures if figure.startswith(f"{by} p1: fail")]
    assert said in line
    assert line.endswith("; none: pass")
    assert found.verdict.headline.startswith(f"{name}: FAIL (patch 1 of 1")
