"""A fault that one selftest sees, and no litmus test: it fails by name under the series, and not without it."""

import pytest

from kvmharness.cells.matrix import select
from kvmharness.lab.kernels.selftests import build
from kvmharness.lab.kernels.source import debian
from kvmharness.patches.series import load
from kvmharness.results.tests import SELFTESTS
from kvmharness.results.verdict import Outcome
from kvmharness.suites.selftests import selftests
from kvmharness.validation.battery import litmus_tests, suite
from kvmharness.validation.campaign import EMULATED_PLAN
from kvmharness.validation.prepare import prepare
from kvmharness.validation.snapshots import emulated_host
from kvmharness.validation.together import Part, validate_on
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
    files = {variant.name: variant.files for variant in built.plan.variants}
    chosen = {by, *(f"x86_64/{other}" for other in OTHERS)}

    def machine_for(kernel):
        return emulated_host(host, kernel, at_once=2)

    def tests_of(variant):
        made = build(built.kernels[variant].tree, files[variant])
        return [test for test in selftests(made) if test.name in chosen]

    tests = {variant.id.name: tests_of(variant.id.name) for variant in built.variants}
    batteries = (
        litmus_tests(built, machine_for, [()]),
        suite(SELFTESTS, built, machine_for, [()], tests),
    )
    part = Part(host, machine_for, built, select(("a:1x1",)), EMULATED_PLAN, batteries=batteries)
    found = validate_on([part], turns=1, command=(), on_result=lambda *result: None)
    (failed,) = [claim for claim in found.verdict.claims if claim.outcome is Outcome.FAIL]
    assert (failed.name, failed.cells, failed.variants) == ("selftests-hold", (by,), ("p1",))
    assert failed.figures[0].startswith(f"{by} p1: fail: ")
    assert said in failed.figures[0].splitlines()[0]
    assert failed.figures[0].splitlines()[0].endswith("; none: pass")
    assert found.verdict.headline.startswith(f"{name}: FAIL (patch 1 of 1")
