"""Frames: how JSON objects travel from the emulated host to us over one byte-wide port.

The port's bytes come out mixed with what the emulator itself prints, and end in the middle when the machine dies.
So a frame carries a magic word, its length and a checksum: ``KVMH``, length, CRC-32 (both 32 bits, little endian), then
that many bytes of JSON. Whatever is not a whole, intact frame is handed back as noise and never as a result.
"""

import json
from binascii import crc32
from collections.abc import Iterator

MAGIC = b"KVMH"
_HEADER_BYTES = len(MAGIC) + 8
# Larger than any event; a larger length is a damaged header, not something to wait for.
MAX_PAYLOAD_BYTES = 1 << 24


def encode(event: dict[str, object]) -> bytes:
    """One event as a frame."""
    payload = json.dumps(event, separators=(",", ":")).encode()
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"an event of {len(payload)} bytes is larger than a frame may be ({MAX_PAYLOAD_BYTES})")
    return MAGIC + len(payload).to_bytes(4, "little") + crc32(payload).to_bytes(4, "little") + payload


class Decoder:
    """Takes bytes as they come, gives events as they become whole.

    Attributes:
        noise: bytes that belong to no intact frame, in order.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.noise = bytearray()

    @property
    def pending(self) -> bytes:
        """What is left of a frame that has begun and not ended: after the machine's end, a result cut short."""
        return bytes(self._buffer)

    def feed(self, chunk: bytes) -> Iterator[dict[str, object]]:
        """Take *chunk*; yield every event that is whole now."""
        self._buffer += chunk
        while True:
            start = self._buffer.find(MAGIC)
            if start < 0:
                # The last bytes may be the beginning of a magic word.
                self._drop(max(0, len(self._buffer) - _magic_prefix(self._buffer)))
                return
            self._drop(start)
            if len(self._buffer) < _HEADER_BYTES:
                return
            length = int.from_bytes(self._buffer[4:8], "little")
            if length > MAX_PAYLOAD_BYTES:
                self._drop(len(MAGIC))
                continue
            if len(self._buffer) < _HEADER_BYTES + length:
                return
            payload = bytes(self._buffer[_HEADER_BYTES : _HEADER_BYTES + length])
            event = _checked(payload, int.from_bytes(self._buffer[8:12], "little"))
            if event is None:
                self._drop(len(MAGIC))
                continue
            del self._buffer[: _HEADER_BYTES + length]
            yield event

    def _drop(self, count: int) -> None:
        self.noise += self._buffer[:count]
        del self._buffer[:count]


def _magic_prefix(data: bytearray) -> int:
    """How many of the last bytes of *data* could begin a magic word."""
    return next((n for n in range(len(MAGIC) - 1, 0, -1) if data.endswith(MAGIC[:n])), 0)


def _checked(payload: bytes, checksum: int) -> dict[str, object] | None:
    if crc32(payload) != checksum:
        return None
    try:
        event = json.loads(payload)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
