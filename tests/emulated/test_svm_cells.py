"""Cells in emulated SVM hosts with and without NPT: the twins of those under VMX, counts equal to the oracle."""

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.cells.matrix import select
from tests.emulated.conftest import boot
from tests.emulated.test_cells import check

pytestmark = [pytest.mark.slow, pytest.mark.needs("emulated_svm")]

WITH_NPT = (
    *select(("a:1x1", "a:3x3", "a:1x4", "a:3x3/novpid")),
    *select(("b:1x1", "b:5x1", "b:5x1/novpid")),
    *select(("c:4/ABAB", "c:5/ABAB", "c:4/AABB", "c:5/AABB")),
    Cell(Setup.NO_EPT, 2, 3, l2_moves_cr3=True),
    Cell(Setup.ONE_EPTP, 2, 2, eptps=1, l2_moves_cr3=True),
    *select(("d:1", "d:5")),
)
WITHOUT_NPT = (
    *select(("a:1x1", "a:2x3", "a:3x3", "a:3x3/novpid")),
    Cell(Setup.NO_EPT, 2, 2, l2_moves_cr3=True),
    *select(("d:1", "d:4", "d:5", "d:8")),
)
WITHOUT_INVEPT, WITHOUT_PCID, NEEDS_NPT = select(("b:5x1/invept8", "a:3x3/pcid", "b:1x1"))


@pytest.fixture(scope="module")
def epyc():
    return boot("svm:epyc", (*WITH_NPT, WITHOUT_INVEPT, WITHOUT_PCID))


@pytest.fixture(scope="module")
def epyc_nonpt():
    return boot("svm:epyc-nonpt", (*WITHOUT_NPT, NEEDS_NPT))


def check_nested(result, exits_to_l0=0):
    """Every round trip is one VMRUN and one VMMCALL; L2 leaves for nothing else but, to L0 alone, so often."""
    trips = result.round_trips
    assert (result.exits["VMRUN"], result.exits["VMMCALL"]) == (trips, trips)
    assert result.stats["nested_run"] == trips
    ticks = result.exits.get("INTR", 0)  # of the host's timer; some come while L2 runs
    assert 0 <= result.counts["kvm_nested_vmexit"] - trips * (1 + exits_to_l0) <= ticks


@pytest.mark.parametrize("cell", WITH_NPT, ids=lambda cell: cell.id)
def test_a_cell_with_npt(epyc, cell):
    result = epyc.results[cell.id]
    check(result)
    assert "WRITE_CR3" not in result.exits, "with NPT the CR3s are the guests' own business"
    if cell.nested:
        check_nested(result)


@pytest.mark.parametrize("cell", WITHOUT_NPT, ids=lambda cell: cell.id)
def test_a_cell_without_npt(epyc_nonpt, cell):
    result = epyc_nonpt.results[cell.id]
    check(result)
    l2_moves = int(cell.l2_moves_cr3)
    assert result.exits["WRITE_CR3"] == (1 + l2_moves) * result.round_trips, "L1's before each VMRUN, and L2's own"
    if cell.nested:
        check_nested(result, exits_to_l0=l2_moves)


def loads(done):
    return {id_: r.counts["kvm_mmu_load"] / r.round_trips for id_, r in done.results.items() if not r.skipped}


def test_what_is_loaded_is_what_vmx_loads(epyc):
    """With both patches; the figures of the published table."""
    assert loads(epyc) == dict.fromkeys((cell.id for cell in WITH_NPT), 0) | {"c:5/ABAB": 1, "c:5/AABB": 0.5}


def test_the_negative_controls(epyc_nonpt):
    """Nobody saves these: they are as they were before the series."""
    seen = loads(epyc_nonpt)
    assert {id_: seen[id_] for id_ in ("a:1x1", "a:2x3", "a:3x3")} == {"a:1x1": 0, "a:2x3": 1, "a:3x3": 2}
    assert [seen[f"d:{count}"] for count in (1, 4, 5, 8)] == [0, 0, 1, 1]


def test_what_cannot_run_here_is_skipped_with_the_reason(epyc, epyc_nonpt):
    assert "INVEPT is an instruction of VMX" in epyc.results[WITHOUT_INVEPT.id].skipped
    assert "pcid" in epyc.results[WITHOUT_PCID.id].skipped
    assert "kvm_amd/parameters/npt is N" in epyc_nonpt.results[NEEDS_NPT.id].skipped


def test_l0_says_what_it_has(epyc, epyc_nonpt):
    assert (epyc.host["l0_ept"], epyc_nonpt.host["l0_ept"]) == (True, False)
    assert epyc.host["emulated"] == "svm:epyc"


@pytest.mark.parametrize("machine", ["epyc", "epyc_nonpt"])
def test_kvm_warned_of_nothing(machine, request):
    said = request.getfixturevalue(machine).dmesg
    assert [line for line in said if "WARN" in line or "BUG" in line or "Call Trace" in line] == []
