"""The operand rows: what each round trip writes and what it must then read, as bytes."""

import struct
from collections.abc import Sequence

from kvmharness.guest.layout import ROWS_MAX, Row
from kvmharness.lean.dataclasses import dataclass

_WORDS = struct.Struct("<7Q8x")


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """The operands of one round trip: see :class:`kvmharness.guest.layout.Row`."""

    host_cr3: int
    host_tag: int
    guest_cr3: int = 0
    guest_tag: int = 0
    eptp: int = 0
    l2_cr3: int = 0
    actions: int = 0  # of class Action


def encode(round_trips: Sequence[RoundTrip]) -> bytes:
    """The rows as they lie in guest memory, 64 bytes each.

    Raises:
        ValueError: none, or more than fit.
    """
    if not 1 <= len(round_trips) <= ROWS_MAX:
        raise ValueError(f"{len(round_trips)} operand rows: between 1 and {ROWS_MAX} fit")
    rows = b"".join(
        _WORDS.pack(r.host_cr3, r.guest_cr3, r.eptp, r.l2_cr3, r.host_tag, r.guest_tag, r.actions) for r in round_trips
    )
    assert len(rows) == len(round_trips) * Row.BYTES
    return rows
