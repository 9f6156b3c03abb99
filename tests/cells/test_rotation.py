"""The orders in which cells use their roots, and what the oracle says about them."""

from fractions import Fraction

import pytest

from kvmharness.cells.cell import Cell, Order, Setup
from kvmharness.cells.matrix import COUNTS
from kvmharness.cells.rotation import rotation, scenario
from kvmharness.oracle.rootcache import simulation as rootcache
from tests.oracle.kernels import BOTH, NONE


def test_orders():
    abab = rotation(Cell(Setup.EPTPS, eptps=3))
    aabb = rotation(Cell(Setup.EPTPS, eptps=3, order=Order.AABB))
    assert abab.ept == (0, 1, 2)
    assert aabb.ept == (0, 0, 1, 1, 2, 2)
    assert (abab.period, aabb.period) == (3, 6)


def test_pcid_is_one_table_under_different_pcids():
    order = rotation(Cell(Setup.NO_EPT, 3, 2, pcid=True))
    assert order.host == ((0, 1), (0, 2), (0, 3))
    assert order.guest == ((0, 1), (0, 2))
    assert order.period == 6


def test_l1_alone_has_no_l2():
    order = rotation(Cell(Setup.L1_ALONE, 5, guest_cr3s=0))
    assert (order.guest, order.ept, order.l2_moves, order.period) == ((), (), (), 5)


def test_l2_moves_to_the_next_of_its_cr3s():
    assert rotation(Cell(Setup.NO_EPT, 1, 3, l2_moves_cr3=True)).l2_moves == ((1, 0), (2, 0), (0, 0))


def test_a_period_contains_whole_intervals_of_invept():
    assert rotation(Cell(Setup.ONE_EPTP, 5, eptps=1, invept_every=8)).period == 40


@pytest.mark.parametrize(
    ("id_", "none", "both"),
    [
        ("a:1x1", 0, 0),
        ("a:3x1", 0, 0),
        ("a:1x4", 1, 0),
        ("a:2x3", 1, 0),
        ("a:3x3", 2, 0),
        ("a:4x4", 2, 0),
        ("a:3x3/pcid", 2, 0),
        ("b:4x1", 0, 0),
        ("b:5x1", 1, 0),
        ("b:1x1/invept8", Fraction(2, 8), Fraction(1, 8)),
        ("c:4/ABAB", 0, 0),
        ("c:5/ABAB", 1, 1),
        ("c:2/AABB", 0, 0),
        ("c:3/AABB", 1, 0),
        ("c:5/AABB", 1, Fraction(1, 2)),
    ],
)
def test_cells_are_the_published_rows_of_the_oracle(id_, none, both):
    """Misses per round trip in steady state, with EPT in L0."""
    told = scenario(Cell.parse(id_), l0_tdp=True)
    assert rootcache.steady(told, NONE) == none
    assert rootcache.steady(told, BOTH) == both


@pytest.mark.parametrize("count", COUNTS)
def test_l1_alone_without_ept_is_the_negative_control(count):
    told = scenario(Cell.parse(f"d:{count}"), l0_tdp=False)
    misses = 0 if count <= 4 else 1
    assert rootcache.steady(told, NONE) == rootcache.steady(told, BOTH) == misses


def test_l1_of_svm_moves_to_its_cr3_itself():
    """Which costs nothing with NPT, and exits and searches the cache without it, as soon as the CR3 changes."""
    cell, alone = Cell(Setup.NO_EPT, 3, 3), Cell(Setup.NO_EPT)
    with_npt = scenario(cell, l0_tdp=True, l1_mov_cr3=True)
    assert rootcache.predict(with_npt, BOTH, 6, 30) == (0, 60)
    assert rootcache.steady(with_npt, NONE) == 2
    assert rootcache.predict(scenario(cell, l0_tdp=False, l1_mov_cr3=True), BOTH, 6, 30) == (60, 90)
    assert rootcache.predict(scenario(alone, l0_tdp=False, l1_mov_cr3=True), BOTH, 6, 30) == (0, 60)
