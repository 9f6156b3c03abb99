"""The words that the run loop's host code works on, and the names that ``guests/run_loop.asm`` has for them."""

from enum import IntEnum

from kvmharness.abi.binding import IOCTLS, ffi, lib
from kvmharness.abi.constants import ExitReason

KVM_RUN = IOCTLS["KVM_RUN"]
REASONS = 64  # exit reasons counted; a newer one is shown to Python uncounted


class Context(IntEnum):
    """Byte offsets of the 8-byte words that the host code works on; the counts come last."""

    FD = 0x00
    KVM_RUN = 0x08
    TICKS_LEFT = 0x10
    COUNTS = 0x18


def symbols() -> dict[str, int]:
    """The names that ``run_loop.asm`` uses, with values from the ABI's own declarations."""
    run = ffi.typeof("struct kvm_run")
    return {f"LOOP_{word.name}": int(word) for word in Context} | {
        "LOOP_REASONS": REASONS,
        "IOCTL_KVM_RUN": KVM_RUN.number,
        "SYSCALL_IOCTL": lib.SYS_ioctl,
        "RUN_EXIT_REASON": ffi.offsetof(run, "exit_reason"),
        "RUN_IO_PORT": ffi.offsetof(run, "io", "port"),
        "REASON_IO": int(ExitReason.IO),
    }
