"""Runs a vCPU until an exit that Python must see.

The loop is host code, assembled from ``guests/run_loop.asm`` into an executable mapping and called through cffi, which
releases the GIL. It counts exits by reason, keeps TSC stamps, and re-enters by itself after an OUT to the tick port.
Where the host forbids executable anonymous memory, a loop in Python gives the same results, more slowly.
"""

from enum import IntEnum
from errno import EINTR
from typing import Any

from kvmharness.abi.binding import ffi, ioctl_error
from kvmharness.abi.constants import ExitReason
from kvmharness.guest.layout import Port
from kvmharness.kvm.exits import Exit, decode
from kvmharness.kvm.vcpu import Vcpu

_REASONS = 64  # exit reasons counted, far more than exist
_WORD_BYTES = 8


class Context(IntEnum):
    """Byte offsets of the 8-byte words that the host code works on; the counts come last."""

    FD = 0x00
    KVM_RUN = 0x08
    TICKS_LEFT = 0x10
    LAST_ENTRY_TSC = 0x18
    LAST_EXIT_TSC = 0x20
    INSIDE_TICKS = 0x28  # host TSC ticks between KVM_RUN's start and its return, all runs together
    COUNTS = 0x30


def symbols() -> dict[str, int]:
    """The names that ``run_loop.asm`` uses, with values from the ABI's own declarations."""
    run = ffi.typeof("struct kvm_run")
    return {f"LOOP_{word.name}": int(word) for word in Context} | {
        "LOOP_REASONS": _REASONS,
        "IOCTL_KVM_RUN": 0,
        "SYSCALL_IOCTL": 0,
        "RUN_EXIT_REASON": ffi.offsetof(run, "exit_reason"),
        "RUN_IO_PORT": ffi.offsetof(run, "io", "port"),
        "REASON_IO": int(ExitReason.IO),
    }
