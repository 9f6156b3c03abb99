"""Frames survive whatever the emulator prints around them, and nothing damaged passes for a result."""

import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmharness.lab.events import MAX_EVENT_BYTES
from kvmharness.lab.inside.frames import MAGIC, Decoder, FloodError, frame

# Written by hand: magic, length 7, CRC-32 of the payload by zlib, payload.
GOLDEN = b"KVMH" + b"\x07\0\0\0" + zlib.crc32(b'{"a":1}').to_bytes(4, "little") + b'{"a":1}'


def decode(*chunks):
    decoder = Decoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)], decoder


def test_encoding_is_as_documented():
    assert frame(b'{"a":1}') == GOLDEN


def test_noise_around_frames_is_kept_apart():
    found, decoder = decode(b"Bochs x86 Emulator 2.7\nKVM" + GOLDEN + b"KKVMH" + GOLDEN + b"bye\n")
    # The second one stands behind a magic word that is none: its length would be four more letters.
    assert found == [b'{"a":1}'] * 2
    assert decoder.noise + decoder.pending == b"Bochs x86 Emulator 2.7\nKVMKKVMHbye\n"


@pytest.mark.parametrize(
    ("damaged", "why"),
    [
        (GOLDEN[:-1] + b"!", "payload changed"),
        (GOLDEN[:8] + b"\0\0\0\0" + GOLDEN[12:], "checksum changed"),
        (MAGIC + (MAX_EVENT_BYTES + 1).to_bytes(4, "little") + GOLDEN[8:], "wild length"),
    ],
)
def test_a_damaged_frame_is_dropped_and_the_next_one_read(damaged, why):
    found, decoder = decode(damaged + GOLDEN)
    assert found == [b'{"a":1}'], why
    assert decoder.noise


def test_a_frame_cut_short_stays_pending():
    found, decoder = decode(GOLDEN, GOLDEN[:-3])
    assert found == [b'{"a":1}']
    assert decoder.pending == GOLDEN[:-3]


def test_a_damaged_frame_that_holds_a_whole_one_gives_it_up():
    outer = MAGIC + len(GOLDEN).to_bytes(4, "little") + b"\0\0\0\0" + GOLDEN
    assert decode(outer)[0] == [b'{"a":1}']


@pytest.mark.slow
@given(st.lists(st.binary(max_size=30), max_size=5), st.integers(1, 40))
def test_any_chunking_gives_the_same_payloads(wanted, size):
    stream = b"".join(map(frame, wanted))
    found, decoder = decode(*(stream[i : i + size] for i in range(0, len(stream), size)))
    assert found == wanted
    assert not decoder.noise
    assert not decoder.pending


@given(st.binary(max_size=200), st.integers(1, 50))
def test_garbage_never_raises_and_nothing_is_lost(garbage, size):
    _, decoder = decode(*(garbage[i : i + size] for i in range(0, len(garbage), size)))
    assert bytes(decoder.noise) + decoder.pending == garbage


def test_of_endless_noise_the_last_is_kept():
    _, decoder = decode(*(b"%07d\n" % line for line in range(100_000)))
    assert decoder.noise.endswith(b"0099998\n0099999\n")
    assert len(decoder.noise) == 1 << 16


def headers(length):
    return MAGIC + length.to_bytes(4, "little") + b"bad."


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(headers(MAX_EVENT_BYTES) * 3_000_000, id="each claims the most that may be"),
        pytest.param(headers(1 << 20) * 3_000_000, id="each claims a megabyte"),
    ],
)
@pytest.mark.slow
def test_headers_that_are_none_are_not_looked_through_for_ever(garbage):
    began = time.process_time()
    with pytest.raises(FloodError):
        decode(*(garbage[at : at + (1 << 16)] for at in range(0, len(garbage), 1 << 16)))
    assert time.process_time() - began < 5  # checked to the end, it would be hours


@pytest.mark.parametrize(
    "piece", [headers(0xFFFFFFFF), headers(16), MAGIC, b"K", b"KVM", frame(b"x")[:-1]], ids=lambda piece: piece.hex()
)
@pytest.mark.slow
def test_a_byte_costs_no_more_where_many_stand_before_it(piece):
    def seconds(size):
        decoder, stream, began = Decoder(), piece * (size // len(piece)), time.process_time()
        for at in range(0, len(stream), 1 << 16):
            list(decoder.feed(stream[at : at + (1 << 16)]))
        return time.process_time() - began

    assert seconds(1 << 23) < 8 * seconds(1 << 21) + 0.5


def test_a_large_frame_that_is_damaged_is_survived():
    large = bytearray(frame(b"x" * MAX_EVENT_BYTES))
    large[-1] ^= 1
    assert decode(bytes(large), GOLDEN)[0] == [b'{"a":1}']
