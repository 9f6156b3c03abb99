"""Running cells: what becomes of a good one, a skipped one, a polluted one and one that goes wrong."""

import errno
import json
from contextlib import nullcontext

import pytest

from kvmharness.abi.errors import IoctlError
from kvmharness.cells import execute as executing
from kvmharness.cells import judge as judging
from kvmharness.cells.cell import Cell, Setup
from kvmharness.cells.execute import execute
from kvmharness.cells.judge import L2NeverRanError, PollutedError, check_steady
from kvmharness.cells.passes import Plan
from kvmharness.cells.plan import plan
from kvmharness.cells.surroundings import Surroundings, surroundings
from kvmharness.cells.turn import DiffersError, PlannedTurn
from kvmharness.errors import UsageError
from kvmharness.guest.layout import Row
from kvmharness.guest.session import Session
from kvmharness.hosts.facts import facts
from kvmharness.hosts.needs import unmet
from kvmharness.results.record import Prediction, Probes
from tests.spoiling import with_row
from tests.surroundings import skylake

ALONE = Cell(Setup.L1_ALONE, 5, guest_cr3s=0)
TWO = Cell(Setup.L1_ALONE, 2, guest_cr3s=0)
NESTED = Cell(Setup.NO_EPT, 3, 3)
SHORT = Plan(warmup=7, round_trips=58, batches=3, batch_round_trips=4, timeout_s=20)


def turn(*cells, there=None, **options):
    return PlannedTurn(cells, there or surroundings(), SHORT, **options)


def raws(planned):
    """What is emitted for a turn, after a way through JSON."""
    emitted = []
    execute(emitted.append, **json.loads(json.dumps(planned.arguments)))
    return json.loads(json.dumps(emitted))


@pytest.mark.needs("kvm")
def test_each_pass_of_a_cell_is_told_before_it_begins():
    """What the kernel says, or dies of, is that cell's."""
    said = [(raw.get("begins", raw.get("cell")), raw.get("doing", "done")) for raw in raws(turn(ALONE, TWO))]
    assert said == [(0, "counting"), (1, "counting"), (0, "timing"), (0, "done"), (1, "timing"), (1, "done")]


@pytest.mark.parametrize(("number", "is_limit"), [(errno.EMFILE, True), (errno.EINVAL, False)])
def test_too_few_open_files_are_no_fault_of_the_kernel(number, is_limit):
    def refuse():
        raise IoctlError("KVM_GET_STATS_FD", number)

    attempt = executing._Attempt(0, plan(ALONE, skylake().offered, SHORT).to_json())
    with pytest.raises(IoctlError) if is_limit else nullcontext():
        attempt.attempt(refuse)
    assert ("error" in attempt.raw) is not is_limit


def run(*cells, **options):
    planned = turn(*cells, **options)
    results = [result for raw in raws(planned) for result in planned.take(raw)]
    return [*results, *planned.rest()]


@pytest.mark.parametrize(("round_trips", "period", "whole"), [(1, 1, 1), (10, 5, 10), (11, 5, 15), (4, 40, 40)])
def test_passes_are_whole_periods(round_trips, period, whole):
    assert Plan(warmup=round_trips).whole(period).warmup == whole


def test_l2_that_never_ran_is_an_error():
    with pytest.raises(L2NeverRanError, match="99 times in 100"):
        check_steady(NESTED, 100, {"nested_run": 99})
    check_steady(NESTED, 100, {"nested_run": 100})
    check_steady(ALONE, 100, {"nested_run": 0})
    check_steady(NESTED, 100, {})  # a kernel without that statistic says nothing about it


@pytest.mark.parametrize("name", judging.POLLUTION)
def test_a_busy_mmu_is_no_steady_state(name):
    with pytest.raises(PollutedError, match=name) as caught:
        check_steady(ALONE, 100, {name: 6})
    assert "warm-up" in caught.value.hint
    check_steady(ALONE, 100, {name: 5, "exits": 1000, "tlb_flush": 200})


@pytest.mark.needs("kvm")
def test_l1_alone_on_this_machine():
    (result,) = run(ALONE, variant="mine", number=3)
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
def test_what_the_oracle_says_stands_beside_the_counts():
    told = Prediction(3, 60)
    (result,) = run(ALONE, predict=lambda planned: told if planned.cell == ALONE else None)
    assert result.predicted == told


@pytest.mark.needs("kvm")
@pytest.mark.skipif(unmet("nested", facts()) is None, reason="this machine has nesting, so nothing is skipped")
def test_a_nested_cell_is_skipped_here_with_the_reason_and_the_way_out():
    skipped, ran = run(NESTED, ALONE)
    assert skipped.id == "a:3x3"
    assert "nested" in skipped.skipped
    assert "--host vmx" in skipped.skipped
    assert skipped.samples == ()
    assert skipped.error is None
    assert ran.samples, "the other cells still run"


@pytest.mark.needs("kvm")
def test_a_stale_translation_is_a_failure_of_the_cell_alone():
    """The first guest's last row expects what no table maps."""
    here = surroundings()
    planned = turn(TWO, ALONE, there=here)
    spoiled = with_row(plan(TWO, here.offered, SHORT), 1, Row.HOST_TAG, lambda tag: tag ^ 0x40)
    planned.arguments["cells"][0] = spoiled.to_json()
    bad, good = [result for raw in raws(planned) for result in planned.take(raw)]
    assert bad.error.type == "StaleTranslation"
    assert "round trip 1" in bad.error.message
    assert bad.probes == Probes(1, 1)
    assert bad.samples == ()
    assert good.error is None
    assert good.samples


@pytest.mark.needs("kvm")
def test_cells_planned_for_another_kvm_are_not_run():
    here = surroundings()
    data = here.to_json()
    data["facts"]["module_parameters"] = {"kvm.tdp_mmu": "perhaps"}
    for there, word in ((Surroundings.from_json(data), "parameters"), (_without_cpuid(here), "cpuid")):
        planned = turn(ALONE, there=there)
        (raw,) = raws(planned)
        with pytest.raises(DiffersError, match=word):
            list(planned.take(raw))


def _without_cpuid(there):
    data = there.to_json()
    data["offered"]["cpuid"] = data["offered"]["cpuid"][:80]
    return Surroundings.from_json(data)


GOOD = {"cell": 0, "counts": {}, "missing": {}, "stats": {}, "samples": [1], "round_trips": 5}


@pytest.mark.needs("kvm")
@pytest.mark.parametrize(
    "raw",
    [
        {},
        {**GOOD, "cell": 1},
        {**GOOD, "cell": "0"},
        {**GOOD, "samples": [1.5]},
        {**GOOD, "samples": "1"},
        {**GOOD, "counts": {"kvm_mmu_load": None}},
        {**GOOD, "more": 1},
        {key: value for key, value in GOOD.items() if key != "stats"},
        {"cell": 0, "mailbox": "zz"},
        {"cell": 0, "error": "text"},
        {"cell": 0, "error": {"type": "X"}},
    ],
)
def test_what_is_no_result_is_an_error_of_the_infrastructure(raw):
    with pytest.raises(UsageError, match="result"):
        list(turn(ALONE).take(raw))


@pytest.mark.needs("kvm")
def test_a_result_that_is_missing_or_too_much():
    planned = turn(ALONE, TWO)
    (first,) = planned.take(GOOD)
    assert first.id == "d:5"
    with pytest.raises(UsageError, match="no result for d:2"):
        list(planned.rest())
    list(planned.take({**GOOD, "cell": 1}))
    with pytest.raises(UsageError, match="result for cell 2"):
        list(planned.take({**GOOD, "cell": 2}))


@pytest.mark.needs("kvm")
def test_nothing_is_counted_any_more_when_times_are_taken(monkeypatch):
    """Order of what happens: warm-up, counters on, counters off and closed, another warm-up, then the samples."""
    seen = []
    phase = Session.phase

    class Counters:
        missing: dict[str, str] = {}  # noqa: RUF012

        def __enter__(self):
            return self

        def __exit__(self, *error):
            seen.append(("close",))

        def start(self):
            seen.append(("start",))

        def disable(self):
            seen.append(("disable",))

        def read(self):
            return {}

    monkeypatch.setattr(Session, "phase", lambda *a, **k: (seen.append(("phase", a[1])), phase(*a, **k))[1])
    monkeypatch.setattr(executing, "open_counters", lambda specs: Counters())
    run(ALONE)
    assert seen == [("phase", 1), ("phase", 1), ("start",), ("disable",), ("close",), ("phase", 1), ("phase", 3)]
