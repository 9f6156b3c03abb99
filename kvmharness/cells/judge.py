"""Makes a result of what a cell's run gave: exits by name, the steady state, errors in words, the oracle's figure."""

from collections.abc import Mapping

from kvmharness.cells.cell import Cell
from kvmharness.cells.plan import Planned
from kvmharness.errors import GuestError
from kvmharness.guest.failures import StaleTranslation, explain
from kvmharness.guest.stops import GuestFailedError
from kvmharness.lean.dataclasses import dataclass, field, replace
from kvmharness.measure.perf import exits_by_reason
from kvmharness.results.jsonread import Fields, hexadecimal, integer, integer_map, integers, number, text_map
from kvmharness.results.record import CellError, CellResult, Prediction, Probes, cell_error

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
class Raw:
    """What :func:`kvmharness.cells.execute.execute` emitted for one cell: figures, or why there are none.

    Attributes:
        cell: its number in the call.
        counts, missing: of the counters, by name, over the counting pass.
        stats: what KVM's statistics gained over it.
        samples: ticks of each batch of the timing pass.
        round_trips: since the guest's start, as the guest counts them.
        began_s: when the timing pass began, of CLOCK_MONOTONIC; None where time is not real.
        error: what ended it.
        mailbox: of a guest that gave up.
    """

    cell: int
    counts: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    stats: Mapping[str, int] = field(default_factory=dict)
    samples: tuple[int, ...] = ()
    round_trips: int = 0
    began_s: float | None = None
    error: CellError | None = None
    mailbox: bytes = b""

    @classmethod
    def read(cls, data: object) -> "Raw":
        """Reads what came from the host under test.

        Raises:
            ShapeError: it is not of that form; names the field.
        """
        with Fields(data, "result") as taken:
            cell = taken.take("cell", integer)
            if "error" in taken:
                return cls(cell, error=taken.take("error", cell_error))
            if "mailbox" in taken:
                return cls(cell, mailbox=taken.take("mailbox", hexadecimal))
            return cls(
                cell,
                counts=taken.take("counts", integer_map),
                missing=taken.take("missing", text_map),
                stats=taken.take("stats", integer_map),
                samples=taken.take("samples", integers),
                round_trips=taken.take("round_trips", integer),
                began_s=taken.take("began_s", number) if "began_s" in taken else None,
            )


def blank(cell: Cell, variant: str, turn: int) -> CellResult:
    """A result without figures."""
    return CellResult(cell.id, cell.to_json(), variant, turn, params=dict(cell.params))


def judge(
    planned: Planned, raw: Raw, result: CellResult, reasons: Mapping[str, int], told: Prediction | None
) -> CellResult:
    """The result of one cell.

    Args:
        planned: the cell.
        raw: what came of its run.
        result: see :func:`blank`.
        reasons: the exits that were counted one by one, name -> code.
        told: what the oracle says of the counting pass; None where it says nothing.
    """
    if raw.error is not None:
        return _failed(result, raw.error)
    if raw.mailbox:
        error = explain(GuestFailedError(raw.mailbox), planned.vendor)
        return _failed(result, CellError(type(error).__name__, str(error)), stale=isinstance(error, StaleTranslation))
    counted = planned.passes.round_trips
    try:
        check_steady(planned.cell, counted, raw.stats)
    except GuestError as e:
        return _failed(result, CellError(type(e).__name__, str(e)))
    return replace(
        result,
        round_trips=counted,
        exits={name: count for name, count in exits_by_reason(raw.counts, reasons).items() if count},
        counts={name: count for name, count in raw.counts.items() if not name.startswith("kvm_exit ")},
        missing={name.removeprefix("kvm_exit "): why for name, why in raw.missing.items()},
        stats={name: value for name, value in raw.stats.items() if value},
        predicted=told,
        batch_round_trips=planned.passes.batch_round_trips,
        samples=raw.samples,
        began_s=raw.began_s,
        probes=Probes(checked=raw.round_trips * (2 if planned.cell.nested else 1)),
    )


def _failed(result: CellResult, error: CellError, *, stale: bool = False) -> CellResult:
    return replace(result, error=error, probes=Probes(int(stale), int(stale)))


def check_steady(cell: Cell, round_trips: int, stats: Mapping[str, int]) -> None:
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
