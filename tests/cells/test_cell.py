"""Cells: what makes sense, their names, and their travel as data."""

import json

import pytest

from kvmharness.cells.cell import Cell, Order, Setup, on_vendor, with_params, without_tdp
from kvmharness.cells.matrix import matrix
from kvmharness.errors import UsageError
from kvmharness.hosts.needs import check_names

CELLS = matrix()
A33 = Cell(Setup.NO_EPT, 3, 3)


@pytest.mark.parametrize(
    ("cell", "id_"),
    [
        (A33, "a:3x3"),
        (Cell(Setup.NO_EPT, 3, 3, pcid=True), "a:3x3/pcid"),
        (Cell(Setup.NO_EPT, 3, 3, vpid=False), "a:3x3/novpid"),
        (Cell(Setup.NO_EPT, 2, 2, l2_moves_cr3=True), "a:2x2/l2cr3"),
        (Cell(Setup.ONE_EPTP, 5, eptps=1), "b:5x1"),
        (Cell(Setup.ONE_EPTP, 5, 2, eptps=1), "b:5x2"),
        (Cell(Setup.ONE_EPTP, 5, eptps=1, invept_every=8), "b:5x1/invept8"),
        (Cell(Setup.EPTPS, eptps=3, order=Order.AABB), "c:3/AABB"),
        (Cell(Setup.EPTPS, 5, 5, eptps=3, order=Order.AABB), "c:3/AABB/5x5"),
        (Cell(Setup.EPTPS, 1, 2, eptps=3), "c:3/ABAB/1x2"),
        (Cell(Setup.L1_ALONE, 5, guest_cr3s=0), "d:5"),
        (with_params(A33, {"kvm.tdp_mmu": "N"}), "a:3x3/tdp_mmu=N"),
        (with_params(A33, {"kvm_intel.ept": "0", "kvm.tdp_mmu": "N"}), "a:3x3/tdp_mmu=N/ept=0"),
        (with_params(A33, {"kvm_amd.vls": "0"}), "a:3x3/kvm_amd.vls=0"),
        (with_params(A33, {"kvm_intel.nested": "1"}), "a:3x3/kvm_intel.nested=1"),
        (with_params(A33, {"kvm_amd.vpid": "1"}), "a:3x3/kvm_amd.vpid=1"),  # which the short one is not
        (without_tdp(A33), "e:3x3"),
        (without_tdp(Cell(Setup.L1_ALONE, 5, guest_cr3s=0)), "d:5/tdp=0"),
    ],
)
def test_ids(cell, id_):
    assert cell.id == id_
    assert Cell.parse(id_) == cell


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"setup": "a"}, "a Setup and an Order are expected"),
        ({"host_cr3s": 0}, "host_cr3s = 0: a number from 1 to 4095 is expected in set-up (a)"),
        ({"host_cr3s": -1}, "host_cr3s = -1"),
        ({"host_cr3s": 4096, "pcid": True}, "host_cr3s = 4096"),
        ({"host_cr3s": True}, "host_cr3s = True"),
        ({"host_cr3s": "3"}, "host_cr3s = '3'"),
        ({"guest_cr3s": 0}, "guest_cr3s = 0"),
        ({"eptps": 1}, "eptps = 1: set-up (a) has 0"),
        ({"setup": Setup.ONE_EPTP}, "eptps = 0: set-up (b) has 1"),
        ({"setup": Setup.ONE_EPTP, "eptps": True}, "eptps = True"),
        ({"setup": Setup.EPTPS}, "eptps = 0: a number from 1 to 4095 is expected in set-up (c)"),
        ({"setup": Setup.L1_ALONE}, "guest_cr3s = 1: set-up (d) has 0"),
        ({"order": Order.AABB}, "order = AABB: there are no EPTPs to put in order in set-up (a)"),
        ({"setup": Setup.ONE_EPTP, "eptps": 1, "order": Order.AABB}, "order = AABB"),
        ({"invept_every": 8}, "invept_every = 8: L1 gives L2 no EPT in set-up (a)"),
        ({"setup": Setup.ONE_EPTP, "eptps": 1, "invept_every": -8}, "invept_every = -8: a number from 0 to 4095"),
        ({"setup": Setup.L1_ALONE, "guest_cr3s": 0, "vpid": False}, "vpid = False: there is no L2 in set-up (d)"),
        ({"setup": Setup.L1_ALONE, "guest_cr3s": 0, "l2_moves_cr3": True}, "l2_moves_cr3 = True: there is no L2"),
        ({"pcid": 1}, "pcid = 1: True or False is expected"),
        ({"params": (("kvm.b", "1"), ("kvm.a", "1"))}, "each name once, in order"),
        ({"params": (("kvm.a", "1"), ("kvm.a", "2"))}, "each name once, in order"),
        ({"params": (("tdp_mmu", "N"),)}, "'tdp_mmu' is no parameter of KVM's modules"),
        ({"params": (("e1000.x", "N"),)}, "'e1000.x' is no parameter"),
        ({"params": (("kvm.a b", "N"),)}, "'kvm.a b' is no parameter"),
        ({"params": (("kvm.tdp_mmu", "N/pcid"),)}, "kvm.tdp_mmu = 'N/pcid': letters"),
        ({"params": (("kvm.tdp_mmu", "?"),)}, "kvm.tdp_mmu = '?'"),
        ({"params": (("kvm.tdp_mmu", ""),)}, "kvm.tdp_mmu = ''"),
        ({"params": (("tdp", "1"),)}, "tdp=1: it can only be switched off"),
        ({"params": (("kvm_intel.ept", "1"), ("tdp", "0"))}, "ept=1, tdp=0: tdp=0 stands for the other one"),
    ],
)
def test_what_makes_no_sense_cannot_be_made(fields, says):
    with pytest.raises(UsageError) as caught:
        Cell(**{"setup": Setup.NO_EPT, **fields})
    assert says in str(caught.value)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_a_cell_travels_as_data(cell):
    assert Cell.from_json(json.loads(json.dumps(cell.to_json()))) == cell
    with_more = with_params(cell, {"kvm.tdp_mmu": "N"})
    assert Cell.from_json(json.loads(json.dumps(with_more.to_json()))) == with_more


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"setup": "z"},
        {"setup": "e"},
        {"setup": "a", "colour": 1},
        {"setup": "c", "order": "BABA"},
        {"setup": "c"},
        {"setup": "a", "host_cr3s": 3.0},
        {"setup": "a", "host_cr3s": None},
        {"setup": "a", "params": ["kvm.x=1"]},
        {"setup": "a", "params": {"kvm.x": 1}},
    ],
)
def test_what_is_no_cell_is_refused(data):
    with pytest.raises(UsageError, match="not a cell"):
        Cell.from_json(data)


def test_params_are_added_to_those_that_are_there():
    cell = with_params(with_params(Cell(Setup.NO_EPT), {"kvm.tdp_mmu": "N"}), {"kvm_intel.ept": "0"})
    assert cell.params == (("kvm.tdp_mmu", "N"), ("kvm_intel.ept", "0"))
    assert with_params(cell, {"kvm.tdp_mmu": "Y"}).params[0] == ("kvm.tdp_mmu", "Y")


@pytest.mark.parametrize(
    ("vendor_module", "id_"), [("kvm_intel", "a:3x3/tdp_mmu=N/ept=0"), ("kvm_amd", "a:3x3/tdp_mmu=N/npt=0")]
)
def test_the_host_says_which_parameter_takes_ept_away(vendor_module, id_):
    assert on_vendor(Cell.parse("e:3x3/tdp_mmu=N"), vendor_module).id == id_
    assert on_vendor(A33, vendor_module) == A33


def test_a_parameter_of_another_vendors_module_is_refused():
    with pytest.raises(UsageError, match=r"a:3x3/npt=0: kvm_amd\.npt is no parameter of kvm and kvm_intel") as caught:
        on_vendor(Cell.parse("a:3x3/npt=0"), "kvm_intel")
    assert "tdp=0" in caught.value.hint


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_needs_are_names_that_hosts_know(cell):
    check_names(cell.needs)
    assert cell.needs[0] == "kvm"
    assert ("nested" in cell.needs) is (cell.id[0] != "d")
    assert ("pcid" in cell.needs) is ("pcid" in cell.id)
    assert ("tdp" in cell.needs) is (cell.id[0] in "bc")
    assert ("invept" in cell.needs) is ("invept" in cell.id)
    assert ("tlb_tags" in cell.needs) is (cell.id[0] != "d" and "novpid" not in cell.id)
