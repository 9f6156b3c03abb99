"""Runs cells: a counting pass and a timing pass in the same VM, with the oracle's prediction beside the counts.

:func:`run_cells` is what a job calls, on this machine or inside an emulated host: plain data in, plain data out, no
state kept. While a time is taken no counter is even open: a disabled one leaves its kprobe in the kernel's code. So
some cells are counted one after the other, then the counters are closed, then the same VMs are timed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from kvmharness.cells import rootcache
from kvmharness.cells.cell import Cell
from kvmharness.cells.guest import CellGuest, cell_guest
from kvmharness.cells.rotation import scenario
from kvmharness.errors import GuestError, KvmHarnessError
from kvmharness.guest.failures import StaleTranslation
from kvmharness.guest.hypervisor import exit_reasons
from kvmharness.guest.shipped import unpack
from kvmharness.hosts import HostFacts, all_unmet, facts
from kvmharness.kvm.system import Kvm
from kvmharness.lean.dataclasses import dataclass, replace
from kvmharness.measure.clock import tsc_facts
from kvmharness.measure.perf import (
    NESTED_EXITS,
    ROOT_SWITCHES,
    Counters,
    exit_specs,
    exits_by_reason,
    open_counters,
)
from kvmharness.measure.stats_fd import StatsFd
from kvmharness.results.record import CellError, CellResult, Prediction, Probes

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
_GROUP = 16  # cells whose VMs live at the same time
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
        images: guest programs assembled elsewhere, see :func:`kvmharness.guest.shipped.pack`.
        oracle: which of the patches the kernel has, ``{"p1": ..., "p2": ...}``, or None for no prediction.

    Raises:
        HostRequirementError: no /dev/kvm.
    """
    unpack(images or {})
    here = facts()
    emit({"host": here.to_json() | {"tsc_problem": tsc_facts(emulator=here.emulated or "").problem}})
    patches = rootcache.Patches(oracle["p1"], oracle["p2"]) if oracle else None
    runner = _Runner(here, Plan(**plan), variant, turn, patches)
    wanted = [Cell.from_json(dict(data)) for data in cells]
    with Kvm.open() as kvm:
        for first in range(0, len(wanted), _GROUP):
            for result in runner.run(kvm, wanted[first : first + _GROUP]):
                emit({"result": result.to_json()})


@dataclass(slots=True)
class _Attempt:
    """One cell on its way: its result so far, and its guest as long as that runs."""

    cell: Cell
    result: CellResult
    guest: CellGuest | None = None


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

    def run(self, kvm: Kvm, cells: Sequence[Cell]) -> Iterator[CellResult]:
        """The cells' results; whatever goes wrong with one is in its result, so that the others still run."""
        with ExitStack() as guests:
            attempts = [self._begin(cell) for cell in cells]
            with open_counters(self.specs) as counters:
                for attempt in attempts:
                    self._try(attempt, lambda attempt: self._count(attempt, kvm, guests, counters))
            for attempt in attempts:
                if attempt.guest is not None:
                    self._try(attempt, self._time)
                yield attempt.result

    def _begin(self, cell: Cell) -> _Attempt:
        blank = CellResult(cell.id, cell.to_json(), self.variant, self.turn, params=dict(cell.params))
        lacking = all_unmet(cell.needs, self.host)
        return _Attempt(cell, replace(blank, skipped="; ".join(str(unmet) for unmet in lacking) or None))

    def _try(self, attempt: _Attempt, act: Callable[[_Attempt], None]) -> None:
        """Does a step of an attempt that has not failed yet."""
        if attempt.result.skipped:
            return
        try:
            act(attempt)
        except KvmHarnessError as e:
            stale = isinstance(e, StaleTranslation)
            error, probes = CellError(type(e).__name__, str(e)), Probes(int(stale), int(stale))
            attempt.result = replace(attempt.result, error=error, probes=probes)
            attempt.guest = None

    def _count(self, attempt: _Attempt, kvm: Kvm, guests: ExitStack, counters: Counters) -> None:
        cell = attempt.cell
        guest = guests.enter_context(cell_guest(kvm, cell, timeout_s=self.plan.timeout_s))
        warmup = _whole(self.plan.warmup, guest.period)
        counted = _whole(self.plan.round_trips, guest.period)
        guest.session.phase(1, warmup, guest.flags)
        counts, stats = _counting_pass(guest, counters, counted)
        _check_steady(cell, counted, stats)
        attempt.guest = guest
        attempt.result = replace(
            attempt.result,
            round_trips=counted,
            exits={name: count for name, count in exits_by_reason(counts, self.reasons).items() if count},
            counts={name: count for name, count in counts.items() if not name.startswith("kvm_exit ")},
            missing=_missing(counters),
            stats={name: value for name, value in stats.items() if value},
            predicted=self._predict(guest, cell, warmup, counted),
        )

    def _time(self, attempt: _Attempt) -> None:
        guest = attempt.guest
        assert guest is not None
        batch = _whole(self.plan.batch_round_trips, guest.period)
        guest.session.phase(1, batch, guest.flags)  # other guests have run since
        samples = guest.session.phase(self.plan.batches, batch, guest.flags)
        checked = guest.session.round_trips * (2 if attempt.cell.nested else 1)
        guest.session.finish()
        attempt.result = replace(
            attempt.result, batch_round_trips=batch, samples=samples, probes=Probes(checked=checked)
        )

    def _predict(self, guest: CellGuest, cell: Cell, warmup: int, counted: int) -> Prediction | None:
        """What the oracle says; nothing where it does not know the kernel or its MMU."""
        if self.patches is None or self.host.l0_tdp is None:
            return None
        l1_mov_cr3 = guest.hypervisor is not None and guest.hypervisor.l1_moves_cr3
        told = scenario(cell, l0_tdp=self.host.l0_tdp, l1_mov_cr3=l1_mov_cr3)
        expected = rootcache.predict(told, self.patches, warmup, counted)
        return Prediction(expected.loads, expected.switches)


def _whole(round_trips: int, period: int) -> int:
    """Rounded up to a multiple of the period."""
    return -(-round_trips // period) * period


def _counting_pass(guest: CellGuest, counters: Counters, round_trips: int) -> tuple[dict[str, int], dict[str, int]]:
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
