"""Running cells: what becomes of a good one, a skipped one, a polluted one and one that goes wrong."""

from contextlib import contextmanager
from dataclasses import asdict

import pytest

from kvmharness.cells import experiment
from kvmharness.cells.cell import Cell, Setup
from kvmharness.cells.experiment import L2NeverRanError, Plan, PollutedError, run_cells
from kvmharness.guest.failures import StaleTranslation
from kvmharness.hosts import facts, unmet
from kvmharness.oracle import oracles
from kvmharness.results.record import CellResult, Prediction, Probes

ALONE = Cell(Setup.L1_ALONE, 5, guest_cr3s=0)
NESTED = Cell(Setup.NO_EPT, 3, 3)
SHORT = Plan(warmup=7, round_trips=58, batches=3, batch_round_trips=4, timeout_s=20)


def run(*cells, plan=SHORT, **options):
    """(host facts, results) of a call."""
    emitted = []
    run_cells(emitted.append, cells=[cell.to_json() for cell in cells], plan=asdict(plan), **options)
    hosts = [data["host"] for data in emitted if "host" in data]
    assert "host" in emitted[0]
    assert len(hosts) == 1
    return hosts[0], [CellResult.from_json(data["result"]) for data in emitted[1:]]


@pytest.mark.parametrize(("round_trips", "period", "whole"), [(1, 1, 1), (10, 5, 10), (11, 5, 15), (4, 40, 40)])
def test_passes_are_whole_periods(round_trips, period, whole):
    assert experiment._whole(round_trips, period) == whole


def test_l2_that_never_ran_is_an_error():
    with pytest.raises(L2NeverRanError, match="99 times in 100"):
        experiment._check_steady(NESTED, 100, {"nested_run": 99})
    experiment._check_steady(NESTED, 100, {"nested_run": 100})
    experiment._check_steady(ALONE, 100, {"nested_run": 0})
    experiment._check_steady(NESTED, 100, {})  # a kernel without that statistic says nothing about it


@pytest.mark.parametrize("name", experiment.POLLUTION)
def test_a_busy_mmu_is_no_steady_state(name):
    with pytest.raises(PollutedError, match=name) as caught:
        experiment._check_steady(ALONE, 100, {name: 6})
    assert "warm-up" in caught.value.hint
    experiment._check_steady(ALONE, 100, {name: 5, "exits": 1000, "tlb_flush": 200})


@pytest.mark.needs("kvm")
def test_l1_alone_on_this_machine():
    host, (result,) = run(ALONE, variant="mine", turn=3)
    assert host["kernel_release"] == facts().kernel_release
    assert (result.id, result.variant, result.turn) == ("d:5", "mine", 3)
    assert result.error is None
    assert result.skipped is None
    assert (result.round_trips, result.batch_round_trips) == (60, 5)
    assert len(result.samples) == 3
    assert min(result.samples) > 0
    # Warm-up 10, counting 60, a batch of 5 to warm up again, timing 3 times 5; one probe each.
    assert result.probes == Probes(checked=90, failures=0)
    assert result.predicted is None, "nobody said what this kernel has"
    assert set(result.counts) | set(result.missing) >= {"kvm_mmu_load", "kvm_mmu_new_pgd"}
    assert not set(result.counts) & set(result.missing), "what is missing has no count, not even zero"


@pytest.mark.needs("kvm")
def test_the_oracle_speaks_only_where_the_mmu_is_known():
    _, (result,) = run(ALONE, oracle=oracles.told("root-cache", None).to_json())
    if facts().l0_tdp is None:
        assert result.predicted is None
    else:
        assert isinstance(result.predicted, Prediction)


@pytest.mark.needs("kvm")
@pytest.mark.skipif(unmet("nested", facts()) is None, reason="this machine has nesting, so nothing is skipped")
def test_a_nested_cell_is_skipped_here_with_the_reason_and_the_way_out():
    _, (skipped, ran) = run(NESTED, ALONE)
    assert skipped.id == "a:3x3"
    assert "nested" in skipped.skipped
    assert "--host vmx" in skipped.skipped
    assert skipped.samples == ()
    assert skipped.error is None
    assert ran.samples, "the other cells still run"


@pytest.mark.needs("kvm")
def test_a_stale_translation_is_a_failure_of_the_cell_alone(monkeypatch):
    real = experiment.cell_guest

    @contextmanager
    def stale_at_first(kvm, cell, **options):
        if cell.host_cr3s == 2:
            raise StaleTranslation(1, 17, expected=2, seen=1)
        with real(kvm, cell, **options) as guest:
            yield guest

    monkeypatch.setattr(experiment, "cell_guest", stale_at_first)
    _, (bad, good) = run(Cell(Setup.L1_ALONE, 2, guest_cr3s=0), ALONE)
    assert bad.error.type == "StaleTranslation"
    assert "round trip 17" in bad.error.message
    assert bad.probes.failures == 1
    assert bad.samples == ()
    assert good.error is None


@pytest.mark.needs("kvm")
def test_nothing_is_counted_any_more_when_times_are_taken(monkeypatch):
    """Order of what happens: warm-up, counters on, counters off and closed, another warm-up, then the samples."""
    seen = []
    real = experiment.cell_guest

    @contextmanager
    def watched(*args, **options):
        with real(*args, **options) as guest:
            phase = guest.session.phase
            guest.session.phase = lambda *a, **k: (seen.append(("phase", a[0])), phase(*a, **k))[1]
            yield guest

    class Counters:
        missing: dict[str, str] = {}  # noqa: RUF012

        def start(self):
            seen.append(("start",))

        def disable(self):
            seen.append(("disable",))

        def read(self):
            return {}

    @contextmanager
    def counters(specs):
        yield Counters()
        seen.append(("close",))

    monkeypatch.setattr(experiment, "cell_guest", watched)
    monkeypatch.setattr(experiment, "open_counters", counters)
    run(ALONE)
    assert seen == [("phase", 1), ("phase", 1), ("start",), ("disable",), ("close",), ("phase", 1), ("phase", 3)]
