"""Claims must be able to fail: each seeded fault, built and run in an emulated host, is caught by the right claim."""

import pytest

from kvmharness.cells.matrix import validation_matrix
from kvmharness.lab.kernels.source import debian
from kvmharness.lab.machines.emulator import emulated_host
from kvmharness.patches.series import load
from kvmharness.results.verdict import Outcome
from kvmharness.validation.prepare import prepare
from kvmharness.validation.validate import validate
from tests.folders import FAULTS

pytestmark = [pytest.mark.slow, pytest.mark.needs("emulated_vmx")]

TELLING = ("a:1x1", "a:3x3", "c:3/ABAB", "d:5/ept=0")


def failing(spec):
    """The claims that fail for a series' first patch, over the few cells that tell every fault."""
    cells = [cell for cell in validation_matrix() if cell.id in TELLING]
    assert len(cells) == len(TELLING)
    built = prepare(load(spec), debian(), ("none", "p1"))
    found = validate(built, lambda kernel: emulated_host(kernel=kernel), cells)
    return {answer.name for answer in found.verdict.claims if answer.outcome is Outcome.FAIL}


def test_the_true_series_fails_nothing():
    assert failing("fast-cr3-switch") == set()


@pytest.mark.parametrize(
    ("fault", "caught_by"),
    [
        ("does-nothing", {"p1-leaves-no-load-without-ept-for-l2", "p1-saves-time"}),
        ("every-switch-misses", {"few-roots-never-load", "controls-load-the-same"}),
        ("pgd-ignored-for-indirect-roots", {"no-stale-translation", "every-cell-ran"}),
        ("root-not-reloaded", {"no-stale-translation", "every-cell-ran"}),
        # The reference kernel is the wrong one here, and its own figures give it away.
        ("compared-but-not-stored", {"few-roots-never-load", "controls-load-the-same"}),
    ],
)
def test_each_fault_is_caught_by_the_right_claim(fault, caught_by):
    assert caught_by <= failing(str(FAULTS / fault))


@pytest.mark.parametrize(
    ("fault", "said"),
    [("panics-at-load", "KVM panics when loaded"), ("refuses-to-load", "No such device")],
)
def test_a_variant_that_does_not_load_fails_the_series(fault, said):
    """Not an error of the tool, and not a lost machine: the series is what took the kernel, or itself, out."""
    built = prepare(load(str(FAULTS / fault)), debian(), ("none", "p1"))
    cells = [cell for cell in validation_matrix() if cell.id == "a:1x1"]
    found = validate(built, lambda kernel: emulated_host(kernel=kernel), cells)
    assert found.verdict.outcome is Outcome.FAIL
    (answer,) = [claim for claim in found.verdict.claims if claim.name == "modules-load-and-unload"]
    assert answer.outcome is Outcome.FAIL
    assert answer.figures[0].startswith("variant p1: ")
    assert any(said in figure for figure in answer.figures)
