"""Times that a test takes: figures to record and compare later, never something to pass or fail by."""

from collections.abc import Iterator, MutableSequence
from typing import NoReturn

from kvmharness.errors import UsageError
from kvmharness.measure.clock import INSTRUCTIONS, TSC_CYCLES
from kvmharness.testing.counts import is_counting
from kvmharness.testing.guests import Nested


class TimingIsNoVerdictError(UsageError, TypeError):
    """A test tried to pass or fail by a time."""


class Samples:
    """The guest's TSC ticks of each batch of round trips.

    Iterating gives the figures, for a file or a plot. Comparing them, or asking whether they are true, raises: whether
    a change of time means something only shows against the noise of the same session.

    Attributes:
        ticks: one figure a batch.
        round_trips: of one batch.
        unit: "tsc cycles" or "instructions (emulated)".
    """

    def __init__(self, ticks: tuple[int, ...], round_trips: int, unit: str) -> None:
        self.ticks, self.round_trips, self.unit = ticks, round_trips, unit

    def __iter__(self) -> Iterator[int]:
        return iter(self.ticks)

    def __len__(self) -> int:
        return len(self.ticks)

    def __repr__(self) -> str:
        from statistics import median  # an emulated host need not load it

        middle = median(self.ticks) / self.round_trips
        return f"<{len(self.ticks)} samples, median {middle:g} {self.unit} a round trip>"

    def _refuse(self, other: object = None) -> NoReturn:
        raise TimingIsNoVerdictError(
            "a time by itself is neither good nor bad",
            "Assert on counts; for times use `kvmharness compare` or `kvmharness validate`, which know the noise.",
        )

    __bool__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __hash__ = object.__hash__


class Timing:
    """Takes samples from a guest, and puts them into the test's properties, where ``--junitxml`` finds them.

    Args:
        properties: of the test.
        emulated: this is an emulated host, whose TSC counts instructions.
    """

    def __init__(self, properties: MutableSequence[tuple[str, object]], *, emulated: bool) -> None:
        self._properties = properties
        self._unit = INSTRUCTIONS if emulated else TSC_CYCLES

    def __call__(self, name: str, pair: Nested, *, batches: int = 10, round_trips: int = 20) -> Samples:
        """Makes round trips and takes their time.

        Args:
            name: of the property.
            pair: from the fixture `nested`.
            batches: how many samples.
            round_trips: of one sample.

        Raises:
            UsageError: something is being counted at the same time.
            GuestError: as :meth:`Nested.run`.
        """
        __tracebackhide__ = True
        if is_counting():
            raise UsageError(
                "a time cannot be taken while something is counted: counting costs time",
                "Take it before or after the `with` block that counts.",
            )
        ticks = pair.session.phase(batches, round_trips, pair.flags)
        self._properties.append((f"{name} ({self._unit}, {round_trips} round trips)", " ".join(map(str, ticks))))
        return Samples(ticks, round_trips, self._unit)
