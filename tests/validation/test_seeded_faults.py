"""Claims must be able to fail: each seeded fault, built and run in an emulated host, is caught by the right claim."""

import pytest

from tests.folders import FAULTS
from tests.validation.shared_boot import SharedBoot, failing

pytestmark = [pytest.mark.slow, pytest.mark.needs("emulated_vmx")]

TELLING = ("a:1x1", "a:3x3", "c:3/ABAB", "d:5/ept=0")
CAUGHT_BY = {
    "does-nothing": {"p1-leaves-no-load-without-ept-for-l2", "p1-saves-time"},
    "every-switch-misses": {"few-roots-never-load", "controls-load-the-same"},
    "pgd-ignored-for-indirect-roots": {"no-stale-reads"},
    "root-not-reloaded": {"no-stale-reads"},
    # The reference kernel is the wrong one here, and its own figures give it away.
    "compared-but-not-stored": {"few-roots-never-load", "controls-load-the-same"},
}


@pytest.fixture(scope="module")
def boot():
    """The true series and its rivals, which differ from it in the first patch."""
    specs = {"true": "fast-cr3-switch"} | {name: FAULTS / name for name in CAUGHT_BY}
    return SharedBoot(specs, TELLING, names=("none", "p1"))


def test_the_true_series_fails_nothing(boot):
    assert failing(boot.verdict("true")) == set()


@pytest.mark.parametrize(("fault", "caught_by"), CAUGHT_BY.items())
def test_each_fault_is_caught_by_the_right_claim(boot, fault, caught_by):
    assert caught_by <= failing(boot.verdict(fault))
