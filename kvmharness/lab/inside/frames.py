"""Frames: how events travel from the emulated host to us over one byte-wide port.

The port's bytes come out mixed with what the emulator itself prints, and end in the middle when the machine dies.
So a frame carries a magic word, its length and a checksum: ``KVMH``, length, CRC-32 (both 32 bits, little endian), then
that many bytes, an event. Whatever is not a whole, intact frame is handed back as noise and never as a result.
"""

from binascii import crc32
from collections.abc import Iterator

from kvmharness.lab.events import MAX_EVENT_BYTES

MAGIC = b"KVMH"
_HEADER_BYTES = len(MAGIC) + 8
_NOISE_BYTES = 1 << 16
# What may be checked in vain: a few of the largest frames, and of a long stream so many times its own length.
_IN_VAIN_BYTES, _IN_VAIN_EACH = 4 * MAX_EVENT_BYTES, 2


def frame(payload: bytes) -> bytes:
    """One encoded event as a frame."""
    return MAGIC + len(payload).to_bytes(4, "little") + crc32(payload).to_bytes(4, "little") + payload


class FloodError(ValueError):
    """A stream in which one damaged frame stands beside the other, so that to look for whole ones has no end."""


class Decoder:
    """Takes bytes as they come, gives events as they become whole.

    What stands behind a damaged frame's header is looked through for another one, which must not cost a hostile
    stream's reader the square of its length: each byte that is checked in vain is counted.

    Attributes:
        noise: bytes that belong to no intact frame, in order; the last ones, if they are many.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.noise = bytearray()
        self._in_vain = -_IN_VAIN_BYTES

    @property
    def pending(self) -> bytes:
        """What is left of a frame that has begun and not ended: after the machine's end, a result cut short."""
        return bytes(self._buffer)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Take *chunk*; yield the payload of every frame that is whole now.

        Raises:
            FloodError: too much of what came so far is damaged.
        """
        self._buffer += chunk
        self._in_vain -= _IN_VAIN_EACH * len(chunk)
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
            if length > MAX_EVENT_BYTES:  # a damaged header, not something to wait for
                self._drop(len(MAGIC))
                continue
            if len(self._buffer) < _HEADER_BYTES + length:
                return
            payload = bytes(self._buffer[_HEADER_BYTES : _HEADER_BYTES + length])
            if crc32(payload) != int.from_bytes(self._buffer[8:12], "little"):
                self._drop(len(MAGIC))
                self._in_vain += length
                if self._in_vain > 0:
                    raise FloodError("one damaged frame beside the other")
                continue
            del self._buffer[: _HEADER_BYTES + length]
            yield payload

    def _drop(self, count: int) -> None:
        self.noise += self._buffer[:count]
        del self._buffer[:count]
        del self.noise[:-_NOISE_BYTES]


def _magic_prefix(data: bytearray) -> int:
    """How many of the last bytes of *data* could begin a magic word."""
    return next((n for n in range(len(MAGIC) - 1, 0, -1) if data.endswith(MAGIC[:n])), 0)
