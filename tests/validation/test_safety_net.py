"""The safety net on real kernels: it catches what is broken on purpose by the row made for it, and nothing else."""

import pytest

from kvmharness.cells.matrix import select
from kvmharness.lab.kernels.source import debian
from kvmharness.patches.series import load
from kvmharness.results.verdict import Outcome
from kvmharness.validation.prepare import prepare
from kvmharness.validation.snapshots import emulated_host
from kvmharness.validation.validate import validate
from tests.folders import FAULTS, HARMLESS, SEEDED
from tests.validation.shared_boot import SharedBoot, failing

pytestmark = [pytest.mark.slow, pytest.mark.needs("emulated_vmx")]

TELLING = ("a:1x1", "a:3x3", "c:4/AABB", "c:5/ABAB", "d:5/ept=0")

# Of each series with a fault the one row that catches it. What costs a root load or an exit costs time, too, but it is
# the nearest cause that is told.
CAUGHT_BY = {
    "cr3-compared-for-direct-roots": "no-more-loads",
    "current-root-not-tried": "no-more-loads",
    "cache-one-root-smaller": "no-more-loads",
    "roots-freed-on-nested-exit": "no-more-loads",
    "role-of-roots-altered": "no-more-loads",
    "breaks-and-repairs": "no-more-loads",
    "switches-doubled": "no-more-switches",
    "guest-rip-not-shadowed": "no-more-exits",
    "last-vpid-forgotten": "no-more-flushes",
    "flush-on-every-entry": "no-more-flushes",
    "evicted-roots-zapped": "no-more-mmu-work",
    "slower-entry": "no-more-time",
    "stale-nested-root": "no-stale-reads",
    "stale-host-cr3": "no-stale-reads",
    "log-line": "no-new-messages",
    "warns-without-ept": "no-new-messages",
    "entry-refused": "every-cell-ran",
    "does-not-build": "every-prefix-builds",
}
# Those that leave no kernel to go on with, or no KVM: the row that tells, and what it says.
DOWN = {
    SEEDED / "vm-never-destroyed": ("modules-load-and-unload", "can't unload module 'kvm_intel'"),
    SEEDED / "no-load-without-ept": ("modules-load-and-unload", "Operation not supported"),
    SEEDED / "oops-in-cell": ("every-cell-ran", "NULL pointer dereference"),
    SEEDED / "hangs": ("every-cell-ran", "b:1x1 p1: "),  # which clock ends it depends on how busy this machine is
    FAULTS / "panics-at-load": ("modules-load-and-unload", "KVM panics when loaded"),
    FAULTS / "refuses-to-load": ("modules-load-and-unload", "No such device"),
}
# A leak of a page a VM is seen beside what loads borrow of each other when there are some hundred.
MANY = tuple(
    f"{setup}:{n}x{m}{mark}" for setup in "ab" for n in range(1, 13) for m in (1, 2) for mark in ("", "/novpid")
)
LEAKS = {"vmcs12-leaked": "kmalloc-4k", "pio-page-leaked": "pages"}
# Of each harmless series what it makes better.
BETTER = {
    "comment-only": set(),
    "code-moved": set(),
    "field-of-a-vm": set(),
    "second-needs-first": {"time"},
    "host-cr3-shadowed": {"exits (VMWRITE)", "time"},
    "host-fields-not-dirty": {"time"},
}


@pytest.fixture(scope="module")
def boot():
    """All that can share a boot."""
    folders = [SEEDED / name for name in CAUGHT_BY] + [HARMLESS / name for name in BETTER]
    return SharedBoot({folder.name: folder for folder in folders}, TELLING)


def better(verdict):
    """What a verdict reports as an effect."""
    return {line.partition(" lower")[0] for line in verdict.effects}


def test_every_series_is_tried():
    down = {folder.name for folder in DOWN if folder.parent == SEEDED}
    assert {path.name for path in SEEDED.iterdir()} == CAUGHT_BY.keys() | LEAKS.keys() | down
    assert {path.name for path in HARMLESS.iterdir()} == BETTER.keys() | {"more-previous-roots"}


@pytest.mark.parametrize(("name", "row"), CAUGHT_BY.items())
def test_a_fault_is_caught_by_its_row_and_by_no_other(boot, name, row):
    verdict = boot.verdict(name)
    assert verdict.outcome is Outcome.FAIL
    assert failing(verdict) == {row}
    assert not verdict.effects


@pytest.mark.parametrize(("name", "what"), BETTER.items())
def test_a_harmless_series_passes_and_what_it_saves_is_told(boot, name, what):
    verdict = boot.verdict(name)
    assert failing(verdict) == set()
    assert verdict.outcome is Outcome.PASS
    assert better(verdict) == what


def test_the_patch_that_breaks_is_named_and_the_one_that_repairs(boot):
    assert boot.verdict("breaks-and-repairs").broken == (
        "patch 2 of 3, KVM: x86/mmu: Compare the pgd of every cached root, breaks no-more-loads; patch 3 repairs it"
    )


def test_a_patch_that_needs_the_one_before_is_no_fault(boot):
    built = boot.built["second-needs-first"]
    assert [(each.variant, each.prefix) for each in built.broken] == [("p2", False)]
    assert any("p2: it does not build" in line for line in boot.verdict("second-needs-first").untested)


@pytest.fixture(scope="module")
def lost():
    """What takes the kernel down costs a boot, and the others go on."""
    return SharedBoot({folder.name: folder for folder in DOWN}, ("b:1x1", "d:1/ept=0"))


@pytest.mark.parametrize(("folder", "row", "said"), [(folder, *what) for folder, what in DOWN.items()])
def test_a_variant_that_takes_kvm_or_the_kernel_down_fails_the_series(lost, folder, row, said):
    """Not an error of the tool, and not a lost machine: the series is what took the kernel, or itself, out."""
    verdict = lost.verdict(folder.name)
    assert failing(verdict) == {row}
    (answer,) = [claim for claim in verdict.claims if claim.name == row]
    assert answer.variants == ("p1",)
    assert any(said in figure for figure in answer.figures)
    ran = {result.id for result in lost.record(folder.name).results if result.variant == "none"}
    assert len(ran) == 2


@pytest.fixture(scope="module")
def many():
    """Enough VMs for what each of them leaves behind to be seen, beside some that leave nothing."""
    folders = [SEEDED / name for name in LEAKS] + [HARMLESS / "code-moved"]
    return SharedBoot(
        {folder.name: folder for folder in folders}, MANY, turns=2
    )  # the first load of a boot tells nothing


@pytest.mark.parametrize(("name", "place"), LEAKS.items())
def test_a_leak_is_caught_and_its_place_is_told(many, name, place):
    verdict = many.verdict(name)
    assert failing(verdict) == {"no-leak"}
    (answer,) = [claim for claim in verdict.claims if claim.name == "no-leak"]
    assert answer.figures[0].endswith(f"left of 96 VMs, most of it in {place}")


def test_what_leaks_nothing_is_not_said_to(many):
    verdict = many.verdict("code-moved")
    assert verdict.outcome is Outcome.PASS
    on_request = {"debug-kernel-is-quiet", "builds-cleanly", "selftests-hold", "unit-tests-hold"}
    not_asked_for = {"litmus-tests-hold", "litmus-no-more-work", *on_request}
    assert {claim.name for claim in verdict.claims if claim.outcome is not Outcome.PASS} == not_asked_for


def test_a_series_that_changes_what_the_kernel_shares_runs_in_kernels_of_its_own():
    """And a header's number is the model's: what seven previous roots save is predicted."""
    built = prepare(load(str(HARMLESS / "more-previous-roots")), debian())
    assert "kernel/entry/kvm.o" in built.whole["p1"]
    found = validate(built, lambda kernel: emulated_host(kernel=kernel), select(("a:1x1", "c:5/ABAB")))
    assert found.verdict.outcome is Outcome.PASS
    assert better(found.verdict) == {"root loads", "time"}
    assert [claim.outcome for claim in found.verdict.claims if claim.name == "loads-as-predicted"] == [Outcome.PASS]
