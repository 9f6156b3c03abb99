"""The default matrix, what validates a series, and what a user may ask for."""

import pytest

from kvmharness.cells.cell import Setup
from kvmharness.cells.matrix import COUNTS, PAIRS, matrix, named, select, validation_matrix
from kvmharness.errors import UsageError
from kvmharness.guest import spaces
from kvmharness.vendors.svm.svm import SVM

CELLS = matrix()


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


@pytest.mark.parametrize("id_", ["a:7x1", "c:3/AABB/5x5", "d:12", "a:3x3/tdp_mmu=N", "a:16x16/pcid"])
def test_any_cell_can_be_asked_for(id_):
    (cell,) = select((id_,))
    assert cell.id == id_
    assert cell == named(id_)
    assert cell not in CELLS


def test_set_up_e_is_a_without_ept():
    assert {cell.id.replace("e:", "a:") for cell in select(("e",))} == {cell.id for cell in select(("a",))}
    assert [cell.id for cell in select(("e:3x?",))] == ["e:3x1", "e:3x3"]
    assert select(("e:3x3", "a:3x3/tdp=0")) == (named("e:3x3"),)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("q*", "no default cell matches 'q*'"),
        ("a:9x*", "no default cell matches 'a:9x*'"),
        ("q:1", "'q:1' is no cell: it begins with 'q', where a set-up is expected: a, b, c, d, e"),
        ("", "'' is no cell"),
        ("a:16x1", "a:16x1 does not fit into a guest's memory: 16 + 1 roots and 0 EPTs: at most 15 of each"),
        ("c:16/ABAB", "c:16/ABAB does not fit into a guest's memory"),
        ("e:1x16", "e:1x16 does not fit into a guest's memory"),
        ("c:13/ABAB/11x14/invept9", "repeats only after 18018 round trips, and a guest's memory holds 5120"),
    ],
)
def test_what_cannot_be_run_says_why(pattern, says):
    with pytest.raises(UsageError) as caught:
        select(("a", pattern))
    assert says in str(caught.value)
    assert caught.value.hint


def test_what_fits_by_the_tables_of_vmx_fits_by_those_of_svm():
    """The largest shape in both: what was let pass here must not fail once a host is there."""
    assert named("c:15/AABB/15x15").eptps == 15
    assert spaces.build(15, 15, 15, nested_space=SVM.nested_space).pages
