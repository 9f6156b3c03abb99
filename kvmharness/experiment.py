"""Runs cells: a counting pass and a timing pass in the same VM, with the oracle's prediction beside the counts.

:func:`run_cells` is what a job calls, on this machine or inside an emulated host: plain data in, plain data out, no
state kept. Counting is never switched on while a time is taken.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kvmharness import rootcache
from kvmharness.cell_guest import CellGuest, cell_guest
from kvmharness.errors import GuestError, KvmHarnessError
from kvmharness.guest.failures import StaleTranslation
from kvmharness.guest.hypervisor import exit_reasons
from kvmharness.guest.programs import unpack
from kvmharness.hosts import HostFacts, all_unmet, facts
from kvmharness.kvm.system import Kvm
from kvmharness.measure.perf import (
    NESTED_EXITS,
    ROOT_SWITCHES,
    Counters,
    exit_specs,
    exits_by_reason,
    open_counters,
)
from kvmharness.measure.stats_fd import StatsFd
from kvmharness.record import CellError, CellResult, Prediction, Probes
from kvmharness.values import dataclass, replace
from kvmharness.workloads import Cell, scenario

Emit = Callable[[dict[str, Any]], None]

# KVM's own figures of work that a steady state does not have. Root loads are not among them.
POLLUTION = (
    "pf_fixed",
    "pf_emulate",
    "mmu_cache_miss",
    "mmu_shadow_zapped",
    "mmu_pte_write",
    "mmu_recycled",
    "mmu_flooded",
    "mmu_unsync",
)
_POLLUTION_ALLOWED = 0.05  # events a round trip: a stray one, by the host's own memory management, is no verdict


class L2NeverRanError(GuestError):
    """KVM did not enter L2 once a round trip, so no figure means anything."""


class PollutedError(GuestError):
    """KVM's MMU worked during what should be a steady state, so the figures are not those of the round trips."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each pass is.

    Attributes:
        warmup: round trips before anything is measured, in each cell.
        round_trips: of the counting pass.
        batches: samples of the timing pass.
        batch_round_trips: round trips of one sample.
        timeout_s: how long a guest may go without a doorbell.

    The first two and the batch are rounded up to whole periods of the cell's rotation, so that every sample and every
    count has seen each of its roots equally often.
    """

    warmup: int = 64
    round_trips: int = 120
    batches: int = 10
    batch_round_trips: int = 24
    timeout_s: float = 60.0


def run_cells(
    emit: Emit,
    *,
    cells: Sequence[Mapping[str, Any]],
    plan: Mapping[str, Any],
    variant: str = "host",
    turn: int = 0,
    oracle: Mapping[str, bool] | None = None,
    images: Mapping[str, Any] | None = None,
) -> None:
    """Runs cells one after the other on the machine it is called on.

    Args:
        emit: takes ``{"host": facts}`` once, then ``{"result": ...}`` for each cell, a :class:`CellResult` as data.
        cells: as :meth:`Cell.to_json` gives them.
        plan: the fields of :class:`Plan`.
        variant, turn: copied into the results.
        images: guest programs assembled elsewhere, see :func:`kvmharness.guest.programs.pack`.
        oracle: which of the patches the kernel has, ``{"p1": ..., "p2": ...}``, or None for no prediction.

    Raises:
        HostRequirementError: no /dev/kvm.
    """
    unpack(images or {})
    here = facts()
    emit({"host": here.to_json()})
    patches = rootcache.Patches(oracle["p1"], oracle["p2"]) if oracle else None
    runner = _Runner(here, Plan(**plan), variant, turn, patches)
    with Kvm.open() as kvm, open_counters(runner.specs) as counters:
        for data in cells:
            emit({"result": runner.run(kvm, counters, Cell.from_json(dict(data))).to_json()})


@dataclass(frozen=True, slots=True)
class _Runner:
    """What all cells of a call have in common."""

    host: HostFacts
    plan: Plan
    variant: str
    turn: int
    patches: rootcache.Patches | None

    @property
    def reasons(self) -> dict[str, int]:
        return exit_reasons(self.host.vendor_module)

    @property
    def specs(self) -> tuple[Any, ...]:
        return (*ROOT_SWITCHES, NESTED_EXITS, *exit_specs(self.reasons))

    def run(self, kvm: Kvm, counters: Counters, cell: Cell) -> CellResult:
        """One cell; whatever goes wrong with it is in the result, so that the other cells still run."""
        blank = CellResult(cell.id, cell.to_json(), self.variant, self.turn, params=dict(cell.params))
        lacking = all_unmet(cell.needs, self.host)
        if lacking:
            return replace(blank, skipped="; ".join(str(unmet) for unmet in lacking))
        try:
            with cell_guest(kvm, cell, timeout_s=self.plan.timeout_s) as guest:
                return self._measure(blank, guest, counters, cell)
        except KvmHarnessError as e:
            stale = isinstance(e, StaleTranslation)
            return replace(blank, error=CellError(type(e).__name__, str(e)), probes=Probes(int(stale), int(stale)))

    def _measure(self, blank: CellResult, guest: CellGuest, counters: Counters, cell: Cell) -> CellResult:
        plan = self.plan
        warmup = _whole(plan.warmup, guest.period)
        counted = _whole(plan.round_trips, guest.period)
        batch = _whole(plan.batch_round_trips, guest.period)
        guest.session.phase(1, warmup, guest.flags)
        counts, stats = _count(guest, counters, counted)
        _check_steady(cell, counted, stats)
        samples = guest.session.phase(plan.batches, batch, guest.flags)
        made = guest.session.round_trips
        guest.session.finish()
        return replace(
            blank,
            round_trips=counted,
            exits={name: count for name, count in exits_by_reason(counts, self.reasons).items() if count},
            counts={name: count for name, count in counts.items() if not name.startswith("kvm_exit ")},
            missing=_missing(counters),
            stats={name: value for name, value in stats.items() if value},
            predicted=self._predict(cell, warmup, counted),
            batch_round_trips=batch,
            samples=samples,
            probes=Probes(checked=made * (2 if cell.nested else 1)),
        )

    def _predict(self, cell: Cell, warmup: int, counted: int) -> Prediction | None:
        """What the oracle says; nothing where it does not know the kernel or its MMU."""
        if self.patches is None or self.host.l0_tdp is None:
            return None
        expected = rootcache.predict(scenario(cell, l0_tdp=self.host.l0_tdp), self.patches, warmup, counted)
        return Prediction(expected.loads, expected.switches)


def _whole(round_trips: int, period: int) -> int:
    """Rounded up to a multiple of the period."""
    return -(-round_trips // period) * period


def _count(guest: CellGuest, counters: Counters, round_trips: int) -> tuple[dict[str, int], dict[str, int]]:
    """The counting pass: what the counters and KVM's statistics gained over so many round trips."""
    stats = StatsFd(guest.vcpu.get_stats_fd()), StatsFd(guest.vm.get_stats_fd())
    before: list[Any] = []
    after: list[Any] = []

    def begin() -> None:
        before.extend(each.read() for each in stats)
        counters.start()

    def end() -> None:
        counters.disable()
        after.extend(each.read() for each in stats)

    guest.session.phase(1, round_trips, guest.flags, on_begin=begin, on_end=end)
    gained: dict[str, int] = {}
    for each, first, last in zip(stats, before, after, strict=True):
        gained |= each.delta(first, last)
    return counters.read(), gained


def _check_steady(cell: Cell, round_trips: int, stats: Mapping[str, int]) -> None:
    """Refuses figures that are not those of round trips in a steady state.

    Raises:
        L2NeverRanError, PollutedError: with KVM's own statistics.
    """
    ran = stats.get("nested_run")
    if cell.nested and ran is not None and ran != round_trips:
        raise L2NeverRanError(
            f"KVM entered L2 {ran} times in {round_trips} round trips",
            "The statistic nested_run must equal the round trips; look at the guest and at nested=1.",
        )
    gained = {name: stats[name] for name in POLLUTION if stats.get(name, 0) > _POLLUTION_ALLOWED * round_trips}
    if gained:
        raise PollutedError(
            f"not a steady state: over {round_trips} round trips KVM counted {gained}",
            "Something else uses the guest's memory or KVM's MMU (swapping, KSM, page migration), "
            "or the warm-up is too short: try a longer one.",
        )


def _missing(counters: Counters) -> dict[str, str]:
    return {name.removeprefix("kvm_exit "): why for name, why in counters.missing.items()}
