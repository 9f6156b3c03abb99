"""The shipped series validated under SVM: the loads of the published table, and a fault that has to be seen there."""

import pytest

from kvmharness.cells.matrix import validation_matrix
from kvmharness.lab.kernels.source import debian
from kvmharness.lab.machines.emulator import emulated_host
from kvmharness.patches.series import load
from kvmharness.results.verdict import Outcome
from kvmharness.validation.prepare import prepare
from kvmharness.validation.validate import validate
from tests.folders import FAULTS

pytestmark = [pytest.mark.slow, pytest.mark.needs("emulated_svm")]


# Loads per round trip without the series, with patch 1, with patch 2, with both.
LOADS = {
    "a:1x1": (0, 0, 0, 0),
    "a:1x4": (1, 0, 1, 0),
    "a:3x3": (2, 0, 2, 0),
    "b:5x1": (1, 0, 1, 0),
    "c:3/AABB": (1, 1, 0, 0),
    "c:5/ABAB": (1, 1, 1, 1),
    "a:3x3/npt=0": (2, 2, 2, 2),  # (e)
    "d:5/npt=0": (1, 1, 1, 1),
}
VARIANTS = ("none", "p1", "p2", "both")


def validated(spec, variants):
    cells = [cell for cell in validation_matrix("kvm_amd") if cell.id in LOADS]
    assert len(cells) == len(LOADS)
    return validate(prepare(load(spec), debian(), variants), lambda kernel: emulated_host("svm", kernel), cells)


def failing(found):
    return {answer.name for answer in found.verdict.claims if answer.outcome is Outcome.FAIL}


def test_the_series_saves_under_svm_what_it_saves_under_vmx():
    found = validated("fast-cr3-switch", VARIANTS)
    assert failing(found) == set()
    seen = {(r.id, r.variant): r.counts["kvm_mmu_load"] / r.round_trips for r in found.record.results}
    assert {id_: tuple(seen[id_, variant] for variant in VARIANTS) for id_ in LOADS} == LOADS


@pytest.mark.parametrize("fault", ["pgd-ignored-for-indirect-roots", "root-not-reloaded"])
def test_a_stale_translation_is_seen_under_svm(fault):
    assert {"no-stale-translation", "every-cell-ran"} <= failing(validated(str(FAULTS / fault), ("none", "p1")))
