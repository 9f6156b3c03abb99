"""Memory that is left behind: a page a VM is seen, what one load borrows is none."""

import pytest

from kvmharness.claims.leaks import leaks
from kvmharness.results.incidents import Leftover
from kvmharness.results.verdict import Outcome

PAGE = 4096


def left(variant, vms, **memory):
    return Leftover(variant, 1, vms, {name.replace("_", "-"): count for name, count in memory.items()})


def found(*leftovers):
    (finding,) = leaks(leftovers, "none", ["p1"])
    return finding


def test_a_page_a_vm_is_seen_and_where_it_is():
    finding = found(left("p1", 20, kmalloc_4k=20 * PAGE, pages=-2 * PAGE))
    assert finding.outcome is Outcome.FAIL
    assert finding.variant == "p1"
    assert finding.line == "p1: 72 KiB left of 20 VMs, most of it in kmalloc-4k"


@pytest.mark.parametrize(("vms", "leaked"), [(20, 16 * PAGE), (40, 20 * PAGE)])
def test_less_is_within_what_loads_differ_by(vms, leaked):
    assert found(left("p1", vms, pages=leaked)).outcome is Outcome.PASS
    assert found(left("p1", vms, pages=leaked + 1)).outcome is Outcome.FAIL


def test_what_one_load_borrows_is_no_leak():
    assert found(left("p1", 20, pages=40 * PAGE), left("p1", 20, pages=PAGE)).outcome is Outcome.PASS


def test_what_the_kernel_without_the_series_leaves_behind_is_not_the_series_fault():
    assert found(left("none", 20, pages=20 * PAGE), left("p1", 20, pages=20 * PAGE)).outcome is Outcome.PASS
    assert found(left("none", 30, pages=20 * PAGE), left("p1", 20, pages=20 * PAGE)).outcome is Outcome.FAIL


def test_what_every_load_gives_back_hides_no_leak():
    """As after a load with other parameters, which borrowed it."""
    assert found(left("none", 34, pages=-29 * PAGE), left("p1", 34, pages=-28 * PAGE)).outcome is Outcome.PASS
    assert found(left("none", 34, pages=-29 * PAGE), left("p1", 34, pages=5 * PAGE)).outcome is Outcome.FAIL


@pytest.mark.parametrize("loads", [[], [left("p1", 15, pages=80 * PAGE)]])
def test_loads_that_say_nothing(loads):
    finding = found(left("none", 20, pages=0), *loads)
    assert finding.outcome is Outcome.SKIPPED
    assert "for 16 VMs or more" in finding.line
