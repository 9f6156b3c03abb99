"""The words that run loops' host code works on, and the names that ``guests/*_loop.asm`` have for them."""

from enum import IntEnum

from kvmharness.abi.binding import IOCTLS, ffi, lib
from kvmharness.abi.constants import ExitReason

KVM_RUN = IOCTLS["KVM_RUN"]
REASONS = 64  # exit reasons counted; a newer one is shown to Python uncounted


class Context(IntEnum):
    """Byte offsets of the 8-byte words that the host code works on; the counts come last.

    Those of a serial port are for ``serial_loop.asm`` alone: where its next byte goes and where the buffer ends, and
    what an access to its data or its status register looks like in ``struct kvm_run``.
    """

    FD = 0x00
    KVM_RUN = 0x08
    TICKS_LEFT = 0x10
    SERIAL_NEXT = 0x18
    SERIAL_END = 0x20
    SERIAL_DATA_OUT = 0x28
    SERIAL_STATUS_IN = 0x30
    COUNTS = 0x38


SERIAL_READY = 0x60
"""Line status of a port that has sent everything (bits 5 and 6). Source: PC16550D data sheet, "Line Status"."""


def symbols() -> dict[str, int]:
    """The names that the loops use, with values from the ABI's own declarations."""
    run = ffi.typeof("struct kvm_run")
    return {f"LOOP_{word.name}": int(word) for word in Context} | {
        "LOOP_REASONS": REASONS,
        "IOCTL_KVM_RUN": KVM_RUN.number,
        "SYSCALL_IOCTL": lib.SYS_ioctl,
        "RUN_EXIT_REASON": ffi.offsetof(run, "exit_reason"),
        "RUN_IO": ffi.offsetof(run, "io"),
        "RUN_IO_PORT": ffi.offsetof(run, "io", "port"),
        "RUN_IO_DATA_OFFSET": ffi.offsetof(run, "io", "data_offset"),
        "SERIAL_READY": SERIAL_READY,
        "REASON_IO": int(ExitReason.IO),
    }
