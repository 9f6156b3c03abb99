"""The shipped series validated under SVM: the loads of the published table, and a fault that has to be seen there."""

import pytest

from tests.folders import FAULTS
from tests.validation.shared_boot import SharedBoot, failing

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
STALE = ("pgd-ignored-for-indirect-roots", "root-not-reloaded")


def test_the_series_saves_under_svm_what_it_saves_under_vmx():
    boot = SharedBoot({"true": "fast-cr3-switch"}, tuple(LOADS), "svm", VARIANTS)
    assert failing(boot.verdict("true")) == set()
    seen = {(r.id, r.variant): r.counts["kvm_mmu_load"] / r.round_trips for r in boot.record("true").results}
    assert {id_: tuple(seen[id_, variant] for variant in VARIANTS) for id_ in LOADS} == LOADS


@pytest.fixture(scope="module")
def faults():
    # Not those without NPT: there the guest of one of them goes round until its time is up.
    cells = tuple(id_ for id_ in LOADS if not id_.endswith("/npt=0"))
    return SharedBoot({name: FAULTS / name for name in STALE}, cells, "svm", ("none", "p1"))


@pytest.mark.parametrize("fault", STALE)
def test_a_stale_translation_is_seen_under_svm(faults, fault):
    assert failing(faults.verdict(fault)) >= {"no-stale-reads"}


def test_the_patch_that_the_readme_debugs_costs_two_loads():
    boot = SharedBoot({"pae-roots": FAULTS.parent / "story" / "pae-roots"}, ("a:3x3",), "svm", ("none", "p1"))
    verdict = boot.verdict("pae-roots")
    assert failing(verdict) == {"no-more-loads"}
    (row,) = [claim for claim in verdict.claims if claim.name == "no-more-loads"]
    assert row.figures == ("a:3x3 p1: loads 0 -> 2 per round trip",)
