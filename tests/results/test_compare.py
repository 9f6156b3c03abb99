from dataclasses import replace

import pytest

from kvmharness.cells.cell import Cell, Order, Setup, with_params
from kvmharness.results import noise as stats
from kvmharness.results.compare import CompareError, compare, compare_variants
from kvmharness.results.record import CellError, Probes
from kvmharness.results.verdict import Outcome
from tests import builders

CONTROL = Cell(Setup.NO_EPT, 1, 1)
BUSY = Cell(Setup.NO_EPT, 3, 3)
ALONE = Cell(Setup.L1_ALONE, 5, guest_cr3s=0)


def changed_result(record, index, **changes):
    results = list(record.results)
    results[index] = replace(results[index], **changes)
    return replace(record, results=tuple(results))


def by_id(comparison):
    return {cell.id: cell for cell in comparison.cells}


def test_the_series_lowers_loads_and_time_where_it_says_and_nothing_else():
    record = builders.record([CONTROL, BUSY, Cell(Setup.EPTPS, eptps=3, order=Order.AABB)])
    cells = by_id(compare_variants(record, "none", "p1"))
    assert [(change.name, change.a, change.b) for change in cells["a:3x3"].changed] == [("kvm_mmu_load", 2, 0)]
    assert cells["a:3x3"].time.outcome is stats.Outcome.LOWER
    assert cells["a:3x3"].time.change == pytest.approx(-2400 / 20_100)
    assert cells["a:3x3"].outcome is Outcome.PASS
    for id_ in ("a:1x1", "c:3/AABB"):
        assert not cells[id_].changed
        assert cells[id_].time.change == 0
        assert cells[id_].outcome is Outcome.PASS


def test_the_way_back_is_a_regression():
    comparison = compare_variants(builders.record([CONTROL, BUSY]), "both", "none")
    assert by_id(comparison)["a:3x3"].outcome is Outcome.FAIL
    assert "kvm_mmu_load 0 -> 2" in by_id(comparison)["a:3x3"].why
    assert by_id(comparison)["a:1x1"].outcome is Outcome.PASS
    assert comparison.outcome is Outcome.FAIL


CELLS = (ALONE, CONTROL, BUSY, Cell(Setup.ONE_EPTP, 2, eptps=1), Cell(Setup.EPTPS, eptps=2))


def noisy(seed, cells=CELLS, **more):
    return builders.record(cells, ("host",), turns=6, emulated=False, noise=0.004, seed=seed, **more)


def with_slow_cell(record, cell, share):
    slow = builders.record([cell], ("host",), turns=6, emulated=False, noise=0.004, seed="slow", slower=share).results
    turns = {(result.id, result.turn): result for result in slow}
    return replace(record, results=tuple(turns.get((result.id, result.turn), result) for result in record.results))


@pytest.mark.slow
def test_the_same_kernel_twice_is_no_failure():
    comparisons = [compare(noisy(("a", n)), noisy(("b", n))) for n in range(5)]
    assert all(comparison.outcome is not Outcome.FAIL for comparison in comparisons)
    assert any(comparison.outcome is Outcome.PASS for comparison in comparisons)


@pytest.mark.slow
def test_a_slower_cell_is_seen_through_the_noise():
    cells = by_id(compare(noisy("a"), with_slow_cell(noisy("b"), BUSY, 0.05)))
    assert {id_ for id_, cell in cells.items() if cell.outcome is Outcome.FAIL} == {"a:3x3"}
    assert cells["a:3x3"].why.startswith("time +")
    assert cells["a:1x1"].outcome is Outcome.PASS


@pytest.mark.slow
def test_a_slower_session_is_no_verdict_on_the_kernel():
    comparison = compare(noisy("a"), noisy("b", slower=0.05))
    assert comparison.outcome is Outcome.INCONCLUSIVE
    assert all("together, so it may be the session" in cell.why for cell in comparison.cells)
    faster = by_id(compare(noisy("a", slower=0.05), with_slow_cell(noisy("b"), BUSY, 0.05)))
    assert faster["a:3x3"].outcome is Outcome.INCONCLUSIVE
    assert faster["a:1x1"].outcome is Outcome.PASS


def test_too_few_cells_cannot_tell_the_kernel_from_the_session():
    (cell,) = compare(noisy("a", (BUSY,)), noisy("b", (BUSY,), slower=0.05)).cells
    assert cell.outcome is Outcome.INCONCLUSIVE
    assert "it takes 3 cells" in cell.why


@pytest.mark.slow
def test_runs_that_do_not_agree_fail_nothing():
    quiet, busy = noisy("a"), with_slow_cell(noisy("b"), BUSY, 0.3)
    calm = [result for result in noisy("c").results if result.id == "a:3x3"]
    mixed = [calm[result.turn] if result.id == "a:3x3" and result.turn < 2 else result for result in busy.results]
    cell = by_id(compare(quiet, replace(busy, results=tuple(mixed))))["a:3x3"]
    assert cell.outcome is Outcome.INCONCLUSIVE


def test_variants_of_one_session_need_no_such_care():
    record = builders.record([BUSY], ("none", "slow"), turns=6, emulated=False, noise=0.004)
    slow = builders.record([BUSY], ("none", "slow"), turns=6, emulated=False, noise=0.004, slower=0.05)
    mixed = tuple(s if s.variant == "slow" else r for r, s in zip(record.results, slow.results, strict=True))
    (cell,) = compare_variants(replace(record, results=mixed), "none", "slow").cells
    assert cell.outcome is Outcome.FAIL


def test_one_turn_knows_no_noise_floor_and_says_so():
    first, second = (builders.record([ALONE], ("host",), turns=1, emulated=False, noise=0.01, seed=s) for s in "ab")
    (cell,) = compare(first, second).cells
    assert cell.outcome is Outcome.INCONCLUSIVE
    assert "nothing was run twice" in cell.why


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cpu": "another"}, "cpu differs"),
        ({"config_hash": "0"}, "config_hash differs (5d1f00c0ffee against 0)"),
        ({"microcode": "0x1"}, "microcode differs"),
        ({"mitigations": "auto"}, "mitigations differs"),
    ],
)
def test_other_hosts_are_compared_on_counts_only_with_a_warning(change, said):
    record = builders.record([BUSY], emulated=False, noise=0.01)
    other = replace(builders.record([BUSY], emulated=False, slower=1.0), host={**record.host, **change})
    comparison = compare(record, other)
    assert any(said in warning and "only counts" in warning for warning in comparison.warnings)
    assert all(cell.time is None for cell in comparison.cells)
    assert comparison.outcome is Outcome.PASS


def test_other_units_are_compared_on_counts_only():
    emulated = builders.record([BUSY], ("host",))
    real = replace(builders.record([BUSY], ("host",), emulated=False), host=emulated.host)
    (warning,) = compare(emulated, real).warnings
    assert warning.startswith("units differ (instructions (emulated) against tsc cycles)")


def test_other_module_parameters_are_said_and_compared():
    record = builders.record([BUSY], ("host",))
    other = replace(record, host={**record.host, "module_parameters": {"kvm.tdp_mmu": "N"}})
    comparison = compare(record, other)
    assert "module parameter kvm.tdp_mmu differs (Y against N)" in comparison.warnings
    assert comparison.cells[0].time


def test_records_whose_loads_mean_other_things_are_refused():
    with pytest.raises(CompareError, match="one host uses EPT or NPT"):
        compare(builders.record([BUSY]), builders.record([BUSY], l0_ept=False))


def test_nothing_in_common_is_refused():
    with pytest.raises(CompareError, match="no cell in common"):
        compare(builders.record([BUSY]), builders.record([ALONE]))
    with pytest.raises(CompareError, match="no variant in common: none, p1 against p2, both"):
        compare(builders.record([BUSY], ("none", "p1")), builders.record([BUSY], ("p2", "both")))
    with pytest.raises(CompareError, match="no variant 'p3' in the record"):
        compare_variants(builders.record([BUSY]), "none", "p3")


def test_single_variants_are_paired_whatever_their_names():
    comparison = compare(builders.record([BUSY], ("none",)), builders.record([BUSY], ("both",)))
    assert [(cell.variant_a, cell.variant_b) for cell in comparison.cells] == [("none", "both")]


def test_module_parameters_tell_cells_apart():
    off = with_params(BUSY, {"kvm.tdp_mmu": "N"})
    comparison = compare(builders.record([BUSY, off], ("none",)), builders.record([off, ALONE], ("none",)))
    assert [cell.key for cell in comparison.cells] == [("a:3x3/tdp_mmu=N", (("kvm.tdp_mmu", "N"),))]
    assert comparison.warnings == ("only on one side, not compared: a:3x3, d:5",)


def test_stale_translations_fail_whatever_the_time():
    record = builders.record([BUSY], ("host",))
    broken = changed_result(record, 1, probes=Probes(800, 1))
    assert compare(record, broken).cells[0].why == "stale translations 0 -> 1 per RT"
    assert compare(record, broken).outcome is Outcome.FAIL
    assert compare(broken, broken).outcome is Outcome.FAIL


def test_another_exit_is_a_failure_unless_a_timer_causes_it():
    record = builders.record([BUSY], ("host",))
    exits = dict(record.results[0].exits)
    timer = changed_result(record, 0, exits=exits | {"EXTERNAL_INTERRUPT": 7, "PREEMPTION_TIMER": 1, "other": 2})
    assert compare(record, timer).outcome is Outcome.PASS
    flush = changed_result(record, 0, exits=exits | {"INVEPT": 400})
    (cell,) = compare(record, flush).cells
    assert (cell.outcome, cell.why) == (Outcome.FAIL, "INVEPT 0 -> 0.5 per RT")


def test_other_work_is_no_comparison():
    record = builders.record([BUSY], ("host",))
    counts = {**record.results[0].counts, "kvm_mmu_new_pgd": 10}
    (cell,) = compare(record, changed_result(record, 0, counts=counts)).cells
    assert cell.outcome is Outcome.INCONCLUSIVE
    assert "not the same work" in cell.why


def test_errors_and_skips():
    record = builders.record([BUSY], ("host",))
    failed = changed_result(record, 0, error=CellError("GuestShutdown", "triple fault in L1"))
    assert compare(record, failed).cells[0].why == "error in B: GuestShutdown: triple fault in L1"
    assert compare(record, failed).outcome is Outcome.FAIL
    assert compare(failed, record).outcome is Outcome.INCONCLUSIVE
    skipped = changed_result(record, 0, skipped="nested is off")
    assert compare(record, skipped).outcome is Outcome.SKIPPED
    assert compare(record, skipped).cells[0].why == "skipped in B: nested is off"


def test_a_count_that_one_side_lacks_is_unknown_not_zero():
    record = builders.record([BUSY], ("none",))
    uncounted = replace(
        record, results=tuple(replace(r, counts={"kvm_mmu_new_pgd": 2 * r.round_trips}) for r in record.results)
    )
    (cell,) = compare(uncounted, record).cells
    assert "kvm_mmu_load" in cell.unknown
    assert not cell.changed
