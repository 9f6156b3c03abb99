"""A whole validation: what runs besides the cells, under which module parameters, and why something does not."""

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from kvmharness.errors import UsageError
from kvmharness.lab.kernels.make import KernelBuildError
from kvmharness.lab.kernels.selftests import Selftests
from kvmharness.lab.kernels.source import Source
from kvmharness.results.tests import BUILDS, DEBUG_KERNEL, LITMUS, SELFTESTS, UNIT_TESTS
from kvmharness.validation import whole
from kvmharness.validation.settings import Setting, Settings
from kvmharness.validation.whole import Wanted

NO_EPT, NO_NPT, NO_TDP_MMU = (
    ((name, value),) for name, value in (("kvm_intel.ept", "0"), ("kvm_amd.npt", "0"), ("kvm.tdp_mmu", "N"))
)
KNOWN = frozenset({"kvm_intel.ept", "kvm_amd.npt", "kvm.tdp_mmu"})
UNITS = (SimpleNamespace(name="vmx"),)


class Said(list):
    """Takes what is told of a task."""

    def step(self, message, done=None, total=None):
        self.append(message)

    tick = step


@pytest.fixture
def follow(monkeypatch):
    """What follows from the series."""
    limits = []

    def following(plan, known, *, limit):
        limits.append(limit)
        chosen = (Setting((), "as it is"), Setting(NO_EPT, "p1 changes mmu.c"))
        return Settings(chosen, ("kvm.nested without it nothing nested runs",), ("vmx",))

    monkeypatch.setattr(whole, "following", following)
    return limits


def settings(**wanted):
    said = Said()
    seen = SimpleNamespace(plan=None, parameters=KNOWN)
    return whole._settings(Wanted(**wanted), seen, said), said


def test_the_settings_follow_from_the_series_and_say_why(follow):
    told = ["tests run with default: as it is", "tests run with kvm_intel.ept=0: p1 changes mmu.c"]
    assert settings(litmus=True) == (((), NO_EPT), told)
    _, said = settings(thorough=True)
    assert said[-1] == "not with kvm.nested without it nothing nested runs"
    assert follow[0] < follow[1]


def test_where_no_test_runs_nothing_is_said_of_settings(follow):
    assert settings() == (((),), [])


def test_what_the_user_names_is_taken(follow):
    assert settings(litmus=True, settings=((), NO_TDP_MMU)) == (((), NO_TDP_MMU), [])
    with pytest.raises(UsageError, match=r"kvm\.nonesuch is no parameter"):
        settings(litmus=True, settings=((("kvm.nonesuch", "1"),),))


def here(base=None, module="kvm_intel"):
    """A place with two prefixes, and what its kernel's selftests come to."""
    variants = [SimpleNamespace(id=SimpleNamespace(name=name)) for name in ("none", "p1", "all")]
    files = {"none": {}, "p1": {"tools/a": b"x"}, "all": {}}
    plan = SimpleNamespace(
        prefixes={"none": 0, "all": 1},
        variants=[SimpleNamespace(name=name, files=its) for name, its in files.items()],
    )
    kernel = SimpleNamespace(tree=Path("/tree"), of_variant=False)
    built = SimpleNamespace(
        variants=variants,
        plan=plan,
        kernels=dict.fromkeys(files, kernel),
        subject=SimpleNamespace(prefixes=plan.prefixes),
    )
    place = SimpleNamespace(
        host=SimpleNamespace(spec="vmx", vendor_module=module), base=base or Mock(spec=Source), cells=()
    )
    seen = SimpleNamespace(plan=plan)
    return whole._Here(place, None, built, seen, ((), NO_EPT, NO_NPT), {}, Said())


@pytest.fixture
def trees(monkeypatch):
    """The trees that selftests were built from, with the files that a variant changes."""
    asked = []

    def build(tree, overlay, *, progress):
        asked.append((tree, overlay))
        return Selftests({"smm_test": Path("/bin/smm_test")})

    monkeypatch.setattr(whole, "build", build)
    return asked


def names(place, passes=None, first=True, **wanted):
    return [battery.name for battery in place.batteries(Wanted(**wanted), passes, first=first)]


def test_everything_in_its_order(trees):
    passes = SimpleNamespace(built=SimpleNamespace(variants=()))
    wanted = {"thorough": True, "litmus": True, "unit_tests": UNITS, "debug": "lite"}
    place = here()
    every = [BUILDS, LITMUS, SELFTESTS, UNIT_TESTS, DEBUG_KERNEL]
    assert names(place, passes, **wanted) == every
    assert trees == [(Path("/tree"), {}), (Path("/tree"), {})]  # those that are judged
    assert place.not_done == {}
    assert names(here(), passes, first=False, **wanted) == every[1:]


def test_a_quick_one_has_litmus_tests_alone(trees):
    assert names(here(), litmus=True) == [LITMUS]
    assert trees == []


@pytest.mark.parametrize("module", ["kvm_intel", "kvm_amd"])
def test_a_host_has_the_settings_of_its_vendor(module, trees):
    (litmus,) = here(module=module).batteries(Wanted(litmus=True), None, first=True)
    assert litmus.units == 2 * 2  # two variants, two settings


def test_what_is_not_done_says_why(trees, monkeypatch):
    place = here()
    names(place, thorough=True)
    assert place.not_done == {UNIT_TESTS: "--unit-tests names no built tree of them"}
    real = here(base=SimpleNamespace())
    assert names(real, thorough=True, unit_tests=UNITS, debug="lite") == [BUILDS]
    alone = "under the kernel that is running, `kvmharness suite` runs them"
    assert real.not_done[SELFTESTS] == real.not_done[UNIT_TESTS] == alone
    assert real.not_done[DEBUG_KERNEL] == "vmx does not boot a kernel that is built for it"

    def broken(tree, overlay, *, progress):
        raise KernelBuildError("headers: make failed", ["no rule"])

    monkeypatch.setattr(whole, "build", broken)
    broken_one = here()
    assert SELFTESTS not in names(broken_one, thorough=True)
    assert broken_one.not_done[SELFTESTS] == "headers: make failed"
