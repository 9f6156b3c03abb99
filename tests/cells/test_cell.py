"""Cells: their names, their travel as data, their orders, and the matrix that users select from."""

import json
from fractions import Fraction

import pytest

from kvmharness.cells.cell import (
    COUNTS,
    PAIRS,
    Cell,
    Order,
    Setup,
    matrix,
    rotation,
    scenario,
    select,
    validation_matrix,
    with_params,
)
from kvmharness.errors import UsageError
from kvmharness.hosts.needs import check_names
from kvmharness.oracle.rootcache import simulation as rootcache
from tests.oracle.kernels import BOTH, NONE

CELLS = matrix()


@pytest.mark.parametrize(
    ("cell", "id_"),
    [
        (Cell(Setup.NO_EPT, 3, 3), "a:3x3"),
        (Cell(Setup.NO_EPT, 3, 3, pcid=True), "a:3x3/pcid"),
        (Cell(Setup.NO_EPT, 3, 3, vpid=False), "a:3x3/novpid"),
        (Cell(Setup.NO_EPT, 2, 2, l2_moves_cr3=True), "a:2x2/l2cr3"),
        (Cell(Setup.ONE_EPTP, 5, eptps=1), "b:5x1"),
        (Cell(Setup.ONE_EPTP, 5, eptps=1, invept_every=8), "b:5x1/invept8"),
        (Cell(Setup.EPTPS, eptps=3, order=Order.AABB), "c:3/AABB"),
        (Cell(Setup.L1_ALONE, 5, guest_cr3s=0), "d:5"),
        (Cell(Setup.L1_ALONE, 5, guest_cr3s=0, vpid=False), "d:5"),
        (Cell(Setup.NO_EPT, 3, 3, params=(("kvm.tdp_mmu", "N"),)), "a:3x3/tdp_mmu=N"),
    ],
)
def test_ids(cell, id_):
    assert cell.id == id_


def test_the_matrix_has_every_cell_once_and_all_that_it_must_have():
    ids = [cell.id for cell in CELLS]
    assert len(set(ids)) == len(ids)
    shapes = [f"{n1}x{n2}" for n1, n2 in [(n, 1) for n in COUNTS] + list(PAIRS)]
    assert (COUNTS, PAIRS) == ((1, 2, 3, 4, 5, 8), ((1, 4), (2, 3), (3, 3), (4, 4)))
    wanted = {f"a:{shape}{mark}" for shape in shapes for mark in ("", "/pcid", "/novpid")}
    wanted |= {f"b:{n}x1{mark}" for n in COUNTS for mark in ("", "/pcid", "/novpid")}
    wanted |= {f"c:{n}/{order}" for n in COUNTS for order in ("ABAB", "AABB")}
    wanted |= {f"d:{n}" for n in COUNTS}
    assert wanted <= set(ids)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_a_cell_travels_as_data(cell):
    assert Cell.from_json(json.loads(json.dumps(cell.to_json()))) == cell
    with_more = with_params(cell, {"kvm.tdp_mmu": "N"})
    assert Cell.from_json(json.loads(json.dumps(with_more.to_json()))) == with_more


@pytest.mark.parametrize("data", [{}, {"setup": "z"}, {"setup": "a", "colour": 1}, {"setup": "c", "order": "BABA"}])
def test_what_is_no_cell_is_refused(data):
    with pytest.raises(UsageError, match="not a cell"):
        Cell.from_json(data)


def test_params_are_added_to_those_that_are_there():
    cell = with_params(with_params(Cell(Setup.NO_EPT), {"kvm.tdp_mmu": "N"}), {"kvm_intel.ept": "0"})
    assert cell.params == (("kvm.tdp_mmu", "N"), ("kvm_intel.ept", "0"))
    assert with_params(cell, {"kvm.tdp_mmu": "Y"}).params[0] == ("kvm.tdp_mmu", "Y")


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_needs_are_names_that_hosts_know(cell):
    check_names(cell.needs)
    assert cell.needs[0] == "kvm"
    assert ("nested" in cell.needs) is (cell.id[0] != "d")
    assert ("pcid" in cell.needs) is ("pcid" in cell.id)
    assert ("tdp" in cell.needs) is (cell.id[0] in "bc")
    assert ("invept" in cell.needs) is ("invept" in cell.id)
    assert ("tlb_tags" in cell.needs) is (cell.id[0] != "d" and "novpid" not in cell.id)


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
    told = scenario(select((id_,))[0], l0_tdp=True)
    assert rootcache.steady(told, NONE) == none
    assert rootcache.steady(told, BOTH) == both


@pytest.mark.parametrize("count", COUNTS)
def test_l1_alone_without_ept_is_the_negative_control(count):
    told = scenario(select((f"d:{count}",))[0], l0_tdp=False)
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


def test_what_validates_a_series_has_its_negative_controls_under_both_vendors():
    """The same cells, but for the name of the parameter that takes L0's EPT or NPT away."""
    vmx, svm = validation_matrix("kvm_intel"), validation_matrix("kvm_amd")
    assert [cell.id.replace("ept=0", "npt=0") for cell in vmx] == [cell.id for cell in svm]
    assert {"a:3x3/npt=0", "d:5/npt=0"} < {cell.id for cell in svm}
    assert {name for cell in svm for name, _ in cell.params} == {"kvm_amd.npt", "kvm.tdp_mmu"}
    assert validation_matrix() == vmx


def test_select():
    assert select(()) == CELLS
    assert {cell.setup for cell in select(("d",))} == {Setup.L1_ALONE}
    assert [cell.id for cell in select(("a:3x3", "a:3x?"))] == ["a:3x3", "a:3x1"]
    assert all("pcid" in cell.id for cell in select(("*/pcid",)))


def test_a_pattern_without_a_match_says_how_to_see_them_all():
    with pytest.raises(UsageError, match="'q:1'") as caught:
        select(("a", "q:1"))
    assert "--list" in caught.value.hint
