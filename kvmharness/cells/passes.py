"""How many round trips each pass over a cell's guest makes."""

from kvmharness.lean.dataclasses import dataclass


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

    def whole(self, period: int) -> "Plan":
        """The same with passes of whole periods."""
        return Plan(
            _whole(self.warmup, period),
            _whole(self.round_trips, period),
            self.batches,
            _whole(self.batch_round_trips, period),
            self.timeout_s,
        )


def _whole(round_trips: int, period: int) -> int:
    """Rounded up to a multiple of the period."""
    return -(-round_trips // period) * period
