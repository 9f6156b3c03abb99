"""Decoding, from pages written byte by byte at the offsets that api.rst's struct kvm_run has on x86-64."""

import struct

import pytest

from kvmharness.abi.binding import ffi
from kvmharness.abi.constants import ExitReason, IoDirection, MsrExitReason
from kvmharness.kvm import errors, exits

REASON_OFFSET = 8
UNION_OFFSET = 32


def page(reason, union=b"", *, extra=b"", extra_at=0x800):
    """A ``struct kvm_run *`` in a page of its own, and the page, which must stay alive."""
    memory = ffi.new("char[4096]")
    buffer = ffi.buffer(memory)
    struct.pack_into("<I", buffer, REASON_OFFSET, reason)
    buffer[UNION_OFFSET : UNION_OFFSET + len(union)] = union
    buffer[extra_at : extra_at + len(extra)] = extra
    return memory, ffi.cast("struct kvm_run *", memory)


def decode(reason, union=b"", **extra):
    memory, run = page(reason, union, **extra)
    result = exits.decode(run)
    ffi.buffer(memory)[:] = b"\xff" * 4096  # what was decoded is a copy
    return result


CASES = [
    (0, struct.pack("<Q", 0x30), exits.HardwareUnknownExit(0x30)),
    (1, struct.pack("<II", 14, 2), exits.ExceptionExit(14, 2)),
    (3, struct.pack("<8QII", 12, 1, 2, 3, 4, 5, 6, 0, 1, 0), exits.HypercallExit(12, (1, 2, 3, 4, 5, 6), True)),
    (4, struct.pack("<IIQQQ", 1, 0, 0x1003, 0x4001, 0x402), exits.DebugExit(1, 0x1003, 0x4001, 0x402)),
    (5, b"", exits.HltExit()),
    (
        6,
        struct.pack("<Q8sIB", 0xFEE00020, b"\x78\x56\x34\x12rest", 4, 1),
        exits.MmioExit(0xFEE00020, b"\x78\x56\x34\x12", True),
    ),
    (6, struct.pack("<Q8sIB", 0xA0000, b"", 2, 0), exits.MmioExit(0xA0000, b"\x00\x00", False)),
    (7, b"", exits.IrqWindowOpenExit()),
    (8, b"", exits.ShutdownExit()),
    (9, struct.pack("<QI", 0x80000021, 3), exits.FailEntryExit(0x80000021, 3)),
    (10, b"", exits.IntrExit()),
    (11, b"", exits.SetTprExit()),
    (12, struct.pack("<QI", 0x1234, 1), exits.TprAccessExit(0x1234, True)),
    (16, b"", exits.NmiExit()),
    (17, struct.pack("<IIQQ", 3, 2, 0x80000B0E, 0x1E), exits.InternalErrorExit(3, (0x80000B0E, 0x1E))),
    (
        17,
        struct.pack("<IIQB15s", 1, 3, 1, 2, b"\x0f\x0b"),
        exits.InternalErrorExit(1, (1, 0x0B0F02, 0), b"\x0f\x0b"),
    ),
    (24, struct.pack("<IIQ", 2, 1, 5), exits.SystemEventExit(2, (5,))),
    (26, b"\x31", exits.IoapicEoiExit(0x31)),
    (29, struct.pack("<B7xIIQ", 0, 2, 0x1234, 0), exits.MsrExit(False, 0x1234, 0, MsrExitReason.UNKNOWN)),
    (30, struct.pack("<B7xIIQ", 0, 4, 0xC0000080, 0x500), exits.MsrExit(True, 0xC0000080, 0x500, MsrExitReason.FILTER)),
    (31, b"", exits.DirtyRingFullExit()),
    (32, b"", exits.ApResetHoldExit()),
    (33, b"", exits.BusLockExit()),
    (34, struct.pack("<IxxxxII8Q", 1, 1, 0, 17, 0, 1, 2, 3, 4, 5, 6), exits.XenExit(1, 17, (1, 2, 3, 4, 5, 6))),
    (37, struct.pack("<I", 1), exits.NotifyExit(1)),
    (39, struct.pack("<QQQ", 8, 0x5000, 0x1000), exits.MemoryFaultExit(8, 0x5000, 0x1000)),
]


@pytest.mark.parametrize(("reason", "union", "expected"), CASES)
def test_decode(reason, union, expected):
    assert decode(reason, union) == expected


def test_every_reason_has_a_case():
    assert {case[0] for case in CASES} | {ExitReason.IO, ExitReason.HYPERV} == set(ExitReason)


def test_hyperv_keeps_the_bytes():
    exit_ = decode(27, struct.pack("<II", 2, 0) + b"hypercall")
    assert isinstance(exit_, exits.HypervExit)
    assert exit_.type == 2
    assert exit_.raw[8:17] == b"hypercall"


def test_out_takes_its_data_from_where_the_page_says():
    union = struct.pack("<BBHIQ", 1, 2, 0x3F8, 2, 0x800)
    exit_ = decode(2, union, extra=b"\x34\x12\x78\x56\xee")
    assert exit_ == exits.IoExit(IoDirection.OUT, 2, 0x3F8, 2, b"\x34\x12\x78\x56")
    assert exit_.value == 0x56781234


def test_in_has_no_data():
    union = struct.pack("<BBHIQ", 0, 4, 0xCFC, 1, 0x800)
    assert decode(2, union, extra=b"old!") == exits.IoExit(IoDirection.IN, 4, 0xCFC, 1, b"")


def test_an_impossible_ndata_does_not_read_past_the_array():
    assert len(decode(17, struct.pack("<II", 4, 0xFFFF)).data) == 16
    assert len(decode(24, struct.pack("<II", 1, 0xFFFF)).data) == 16


def test_an_unknown_reason_keeps_the_bytes():
    exit_ = decode(1000, b"something new")
    assert exit_ == exits.UnknownExit(1000, b"something new".ljust(256, b"\0"))


@pytest.mark.parametrize(
    ("exit_", "kind"),
    [
        (exits.InternalErrorExit(2, ()), "SIMUL_EX"),
        (exits.InternalErrorExit(77, ()), "77"),
        (exits.SystemEventExit(3, ()), "CRASH"),
        (exits.SystemEventExit(77, ()), "77"),
    ],
)
def test_kinds_have_names_where_known(exit_, kind):
    assert exit_.kind == kind


@pytest.mark.parametrize(
    ("exit_", "error", "words"),
    [
        (exits.ShutdownExit(), errors.GuestShutdownError, "triple fault"),
        (exits.FailEntryExit(0x80000021, 1), errors.EntryFailureError, "reason 0x80000021 on CPU 1"),
        (
            exits.InternalErrorExit(1, (1,), b"\x0f\x0b"),
            errors.KvmInternalError,
            "EMULATION: data 0x1, instruction bytes 0f 0b",
        ),
        (exits.InternalErrorExit(3, ()), errors.KvmInternalError, "DELIVERY_EV: data none"),
        (exits.HardwareUnknownExit(0x99), errors.KvmInternalError, "0x99"),
    ],
)
def test_fatal_exits_raise(exit_, error, words):
    with pytest.raises(error, match=words) as caught:
        errors.raise_if_fatal(exit_)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("exit_", [exits.HltExit(), exits.IntrExit(), exits.MmioExit(0, b"", True)])
def test_other_exits_do_not(exit_):
    errors.raise_if_fatal(exit_)
