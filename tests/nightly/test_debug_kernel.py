"""Faults of which nothing comes in an ordinary kernel: the debug kernel, built once for all of them, reports each."""

import pytest

from kvmharness.cells.matrix import select
from kvmharness.lab.kernels.debugging import LITE
from kvmharness.lab.kernels.source import debian
from kvmharness.patches.series import load
from kvmharness.results.tests import FAIL, PASS
from kvmharness.validation.debugkernel import DebugPass
from kvmharness.validation.look import look
from kvmharness.validation.prepare import make
from kvmharness.validation.snapshots import emulated_host
from tests.folders import LATENT

# Of each the first variant that has it, and how its report begins.
REPORTED = {
    "sleeps-under-mmu-lock": ("p1", "BUG: sleeping function called from invalid context at arch/x86/kvm/mmu/mmu.c"),
    "locks-in-wrong-order": ("p1", "WARNING: possible circular locking dependency detected"),
    "roots-freed-without-lock": ("both", "WARNING: CPU: 0 PID: "),
    "writes-beyond-cpuid-entries": ("p1", "BUG: KASAN: slab-out-of-bounds in kvm_set_cpuid"),
    "vmcs12-read-after-free": ("p1", "BUG: KASAN: use-after-free in free_nested"),
    "shift-too-far": ("p1", "UBSAN: shift-out-of-bounds in arch/x86/kvm/mmu/mmu.c"),
}
CELLS = ("a:3x3", "c:5/ABAB")

pytestmark = pytest.mark.needs("emulated_vmx")


def passed(series):
    built = make(look(load(series), debian()), recipe=LITE)
    found = DebugPass(lambda kernel: emulated_host("vmx", kernel), built, select(CELLS)).run(lambda said: None)
    return {test.variant: test for test in found}


def test_every_fault_is_tried():
    assert {folder.name for folder in LATENT.iterdir()} == REPORTED.keys()


def test_a_clean_series_makes_it_say_nothing():
    found = passed("fast-cr3-switch")
    assert {name: test.outcome for name, test in found.items()} == dict.fromkeys(found, PASS)


@pytest.mark.parametrize(("name", "variant", "report"), [(name, *what) for name, what in REPORTED.items()])
def test_a_fault_is_reported_from_the_first_prefix_that_has_it(name, variant, report):
    found = passed(str(LATENT / name))
    assert next(each for each, test in found.items() if test.outcome == FAIL) == variant
    assert found["none"].outcome == PASS
    assert found[variant].why.startswith(report)
    assert any("Call Trace" in line for line in found[variant].table)
