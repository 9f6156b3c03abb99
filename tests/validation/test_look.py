"""What is known before anything is built, of a kernel that has never been built."""

import pytest

from kvmharness.lab.kernels.source import debian
from kvmharness.oracle import oracles
from kvmharness.oracle.rootcache import source as rootcache
from kvmharness.patches.series import load
from kvmharness.system import packages
from kvmharness.validation.look import look


def test_the_oracles_look_nowhere_else():
    places = (rootcache._MMU, rootcache._TDP_MMU, rootcache._HEADER, *rootcache._BESIDE, *rootcache._CALLERS)
    assert all(path.startswith(oracles.READ) for path in places)


@pytest.mark.slow
@pytest.mark.skipif(bool(packages.missing(("linux-source-6.1.tar.xz",))), reason="apt-get install linux-source-6.1")
def test_before_the_first_build_the_oracle_knows_the_kernel(tmp_path, monkeypatch):
    """With an empty cache only a part of the source is unpacked to look at."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    seen = look(load("fast-cr3-switch"), debian())
    before = seen.plan.before.read
    views = [oracles.found("root-cache", seen.plan.source(variant).read, before) for variant in seen.plan.variants]
    assert [view.features and view.features["previous_roots"] for view in views] == [3, 3, 3, 3]
