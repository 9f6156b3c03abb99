"""Cells in emulated hosts with and without EPT: counts equal to the oracle, L2 run each time, the same every time."""

import pytest

from kvmharness.validation.campaign import EMULATED_PLAN
from tests.emulated.conftest import NESTED, WITHOUT_EPT

pytestmark = pytest.mark.slow


def check(result):
    assert result.error is None, result.error
    assert result.skipped is None
    assert result.missing == {}
    assert result.predicted is not None
    counted = result.counts["kvm_mmu_load"], result.counts["kvm_mmu_new_pgd"]
    assert counted == (result.predicted.loads, result.predicted.switches)
    assert result.probes.failures == 0
    assert len(result.samples) == EMULATED_PLAN.batches
    assert min(result.samples) > 0


@pytest.mark.parametrize("cell", NESTED, ids=lambda cell: cell.id)
def test_a_cell_with_ept(skylake, cell):
    result = skylake.results[cell.id]
    check(result)
    trips = result.round_trips
    assert result.probes.checked > trips
    if cell.nested:
        assert result.exits["VMRESUME"] == trips
        assert result.exits["VMCALL"] == trips
        assert result.stats["nested_run"] == trips
        ticks = result.exits.get("EXTERNAL_INTERRUPT", 0)  # of the host's timer; some come while L2 runs
        assert 0 <= result.counts["kvm_nested_vmexit"] - trips <= ticks
        assert result.exits["VMWRITE"] >= trips, "HOST_CR3 is in no shadow VMCS"
    else:
        assert result.predicted.loads == 0
        assert result.exits.get("CR_ACCESS", 0) == 0, "with EPT L1's CR3 is its own business"


def test_what_the_series_saves_is_seen(skylake):
    """With both patches: nothing to load in (a) and (b), but for the events that free roots, and E >= 5 in (c)."""
    loads = {id_: result.counts["kvm_mmu_load"] for id_, result in skylake.results.items()}
    assert {id_: count for id_, count in loads.items() if id_.startswith("a:")} == dict.fromkeys(
        (cell.id for cell in NESTED if cell.id.startswith("a:")), 0
    )
    assert loads["b:5x1"] == 0
    assert loads["b:5x1/invept8"] == skylake.results["b:5x1/invept8"].round_trips / 8
    assert loads["c:4/AABB"] == 0
    assert loads["c:5/ABAB"] == skylake.results["c:5/ABAB"].round_trips
    assert loads["c:5/AABB"] == skylake.results["c:5/AABB"].round_trips / 2


def test_l0_says_what_it_has(skylake, penryn):
    assert skylake.host["l0_ept"] is True
    assert penryn.host["l0_ept"] is False
    assert skylake.host["emulated"] == "vmx:skylake"


@pytest.mark.parametrize("cell", [cell for cell in WITHOUT_EPT if not cell.eptps], ids=lambda cell: cell.id)
def test_a_cell_on_an_l0_without_ept(penryn, cell):
    result = penryn.results[cell.id]
    check(result)
    if cell.nested:
        assert result.stats["nested_run"] == result.round_trips
    elif cell.host_cr3s > 1:
        assert result.exits["CR_ACCESS"] == result.round_trips, "every MOV to CR3 exits"


def test_the_negative_control_misses_from_five_roots_on(penryn):
    loads = {count: penryn.results[f"d:{count}"] for count in (1, 4, 5, 8)}
    assert [loads[count].counts["kvm_mmu_load"] for count in (1, 4)] == [0, 0]
    assert [loads[n].counts["kvm_mmu_load"] / loads[n].round_trips for n in (5, 8)] == [1, 1]


def test_a_cell_that_needs_ept_is_skipped_with_the_reason(penryn):
    result = penryn.results["b:1x1"]
    assert result.error is None
    assert "ept" in result.skipped.lower()
    assert result.samples == ()


def test_a_second_run_gives_the_same_to_the_last_figure(skylake, skylake_again):
    assert skylake_again.record.text(when=False) == skylake.record.text(when=False)
    assert skylake_again.outcomes == skylake.outcomes


@pytest.mark.parametrize("machine", ["skylake", "penryn"])
def test_kvm_warned_of_nothing(machine, request):
    said = request.getfixturevalue(machine).dmesg
    assert [line for line in said if "WARN" in line or "BUG" in line or "Call Trace" in line] == []
