"""Talks to a guest that speaks the doorbell protocol: sets its mailbox, runs its phases, reads its samples."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kvmharness.errors import GuestError
from kvmharness.guest.layout import SAMPLES_MAX, Doorbell, Mailbox, Place, Port
from kvmharness.guest.runloop import RunLoop
from kvmharness.guest.stops import MAILBOX_BYTES, GuestFailedError, UnexpectedExit
from kvmharness.guest.watchdog import Watchdog
from kvmharness.kvm.errors import raise_if_fatal
from kvmharness.kvm.exits import IoExit
from kvmharness.kvm.memory import Memory

TIMEOUT_S = 60.0


def _nothing() -> None:
    pass


class Session:
    """One guest from its first doorbell on.

    Args:
        loop: runs the vCPU.
        memory: the guest's memory.
        timeout_s: how long the guest may go without a doorbell.
        explain: makes a better error of a failed guest, where the knowledge for that is at hand.
    """

    def __init__(
        self,
        loop: RunLoop,
        memory: Memory,
        *,
        timeout_s: float = TIMEOUT_S,
        explain: Callable[[GuestFailedError], GuestError] = lambda failed: failed,
    ) -> None:
        self._loop, self._memory = loop, memory
        self._timeout_s, self._explain = timeout_s, explain
        self._ready = False
        self._batches = 0

    @property
    def round_trips(self) -> int:
        """Round trips since the guest's start, as the guest counts them."""
        return self._read(Mailbox.ROUND_TRIPS)

    def start(self) -> None:
        """Runs the guest's own set-up, until it waits for its first phase.

        Raises:
            GuestError: it failed, hung, or rang another doorbell.
        """
        with Watchdog(self._loop, self._timeout_s):
            self._expect(Doorbell.READY)
            self._expect(Doorbell.BEGIN)
        self._ready = True

    def phase(
        self,
        batches: int,
        batch_round_trips: int,
        flags: int = 0,
        *,
        on_begin: Callable[[], None] = _nothing,
        on_end: Callable[[], None] = _nothing,
    ) -> tuple[int, ...]:
        """Makes round trips.

        Args:
            batches: how many samples to take.
            batch_round_trips: round trips each.
            flags: of :class:`kvmharness.guest.layout.Flag`.
            on_begin, on_end: called right before the first and right after the last round trip, while the guest waits.

        Returns:
            Guest TSC ticks of each batch.

        Raises:
            GuestError: the guest failed (see :mod:`kvmharness.guest.stops`), hung, or rang the wrong doorbell.
            ValueError: more batches than there is room for samples.
        """
        if not 1 <= batches <= SAMPLES_MAX or batch_round_trips < 1:
            raise ValueError(f"{batches} batches of {batch_round_trips} round trips: 1 to {SAMPLES_MAX} of at least 1")
        if not self._ready:
            self.start()
        self._batches = batches
        self._write(Mailbox.FLAGS, flags)
        self._write(Mailbox.BATCHES, batches)
        self._write(Mailbox.BATCH_ROUND_TRIPS, batch_round_trips)
        return self.resume(on_begin=on_begin, on_end=on_end)

    def resume(
        self, *, on_begin: Callable[[], None] = _nothing, on_end: Callable[[], None] = _nothing
    ) -> tuple[int, ...]:
        """Goes on with a phase that an exit of another kind has interrupted.

        Args, returns, raises: as :meth:`phase`.
        """
        with Watchdog(self._loop, self._timeout_s):
            with _between(on_begin, on_end):
                self._expect(Doorbell.END)
            size = 8 * self._batches
            samples = struct.unpack(f"<{self._batches}Q", self._memory.read(Place.SAMPLES, size))
            self._expect(Doorbell.BEGIN)
        return samples

    def move(self, loop: RunLoop, memory: Memory) -> None:
        """The guest has gone to another vCPU, and its memory with it."""
        self._loop, self._memory = loop, memory

    def finish(self) -> None:
        """Lets the guest end by itself.

        Raises:
            GuestError: it does not.
        """
        self._write(Mailbox.BATCHES, 0)
        with Watchdog(self._loop, self._timeout_s):
            self._expect(Doorbell.DONE)
        self._ready = False

    def _expect(self, wanted: Doorbell) -> None:
        found = self._loop.run()
        if not isinstance(found, IoExit) or found.port != Port.DOORBELL:
            raise_if_fatal(found)
            raise UnexpectedExit(found, f"doorbell {wanted.name}")
        rung = int.from_bytes(found.data[:4], "little")
        if rung == Doorbell.FAIL:
            mailbox = self._memory.read(Place.MAILBOX, MAILBOX_BYTES)
            raise self._explain(GuestFailedError(mailbox))
        if rung != wanted:
            name = Doorbell(rung).name if rung in set(Doorbell) else f"{rung:#x}"
            raise GuestError(
                f"the guest rang the doorbell {name} where {wanted.name} belongs",
                "The guest program does not follow the protocol in kvmharness/guest/layout.py.",
            )

    def _read(self, word: Mailbox) -> int:
        return self._memory.read_u64(Place.MAILBOX + word)

    def _write(self, word: Mailbox, value: int) -> None:
        self._memory.write_u64(Place.MAILBOX + word, value)


@contextmanager
def _between(on_begin: Callable[[], None], on_end: Callable[[], None]) -> Iterator[None]:
    """Whatever was switched on is switched off, also when the guest dies in between."""
    on_begin()
    try:
        yield
    finally:
        on_end()
