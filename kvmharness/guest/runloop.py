"""Runs a vCPU until an exit that Python must see.

The loop is host code, assembled from ``guests/run_loop.asm`` into an executable mapping and called through cffi, which
releases the GIL. It counts exits by reason, and re-enters by itself after an OUT to the tick port.
Where the host forbids executable anonymous memory, a loop in Python gives the same results, more slowly.
"""

from collections.abc import Callable
from errno import EINTR
from functools import cache
from typing import Any

from kvmharness.abi.binding import SystemCallError, address_of, ffi, ioctl_error, ioctl_value, lib
from kvmharness.abi.constants import ExitReason
from kvmharness.guest.layout import Port
from kvmharness.guest.loopcontext import KVM_RUN, REASONS, Context
from kvmharness.kvm.exits import Exit, decode
from kvmharness.kvm.vcpu import Vcpu

_WORD_BYTES = 8
_NO_LIMIT = (1 << 64) - 1


class RunLoop:
    """The run loop of one vCPU.

    Args:
        vcpu: its owner keeps it open.
        code: the assembled loop, see :func:`kvmharness.guest.shipped.run_loop`; None for Python's.
        native: there is no other way than the assembled loop.

    Raises:
        SystemCallError: ``native`` is True and this host forbids executable anonymous memory.
    """

    def __init__(self, vcpu: Vcpu, code: bytes | None, *, native: bool = False) -> None:
        self.vcpu = vcpu
        self.on_interrupted: Callable[[], None] | None = None  # called after EINTR; may raise
        self.on_exit: Callable[[Exit], None] | None = None  # sees every exit that run() answers
        self.fallback_reason = ""
        self._words = ffi.new("uint64_t[]", Context.COUNTS // _WORD_BYTES + REASONS)
        self._set(Context.FD, vcpu.fd)
        self._set(Context.KVM_RUN, vcpu.kvm_run_address)
        self._code: Any = None
        if code is not None:
            try:
                self._code = _host_code(code)
            except SystemCallError as e:
                if native:
                    raise
                self.fallback_reason = str(e)

    @property
    def native(self) -> bool:
        """Whether the assembled loop is used."""
        return self._code is not None

    @property
    def counts(self) -> dict[ExitReason, int]:
        """Exits to user space by reason since the loop was made, those on the tick port included."""
        first = Context.COUNTS // _WORD_BYTES
        return {reason: count for reason in ExitReason if (count := self._words[first + reason])}

    def run(self, *, max_ticks: int = _NO_LIMIT) -> Exit:
        """Runs until an exit other than an OUT to the tick port, or until that many of them.

        A signal lets Python's handlers run and the vCPU goes on, unless a handler raises.

        Args:
            max_ticks: OUTs to the tick port to swallow; the last one is returned.

        Raises:
            IoctlError: KVM_RUN failed.
            KeyboardInterrupt: Ctrl-C, or whatever else a signal handler raises.
            GuestHungError: the time that a :class:`~kvmharness.guest.watchdog.Watchdog` allows is over.
        """
        self._set(Context.TICKS_LEFT, max_ticks)
        while True:
            result = self._code(self._words) if self._code is not None else self._run_in_python()
            if result >= 0:
                found = decode(self.vcpu.kvm_run)
                if self.on_exit is not None:
                    self.on_exit(found)
                return found
            if result != -EINTR:
                raise ioctl_error(self.vcpu.handle, KVM_RUN, -result, f"on vCPU {self.vcpu.id}")
            # Python runs its own signal handlers between these lines; what is left is the watchdog.
            if self.on_interrupted is not None:
                self.on_interrupted()

    def _run_in_python(self) -> int:
        """The statements of ``run_and_count.inc``, one for one, around those of the loop."""
        run, fd, words = self.vcpu.kvm_run, self.vcpu.fd, self._words
        while True:
            if ioctl_value(fd, KVM_RUN.number, 0) < 0:
                return -int(ffi.errno)
            reason = int(run.exit_reason)
            if reason >= REASONS:
                return reason
            words[Context.COUNTS // _WORD_BYTES + reason] += 1
            if reason != ExitReason.IO or self._leaves(run):
                return reason

    def _leaves(self, run: Any) -> bool:
        """What ``run_loop.asm`` does with an access to a port, one for one; whether that is for Python to see."""
        if run.io.port != Port.TICK:
            return True
        self._words[Context.TICKS_LEFT // _WORD_BYTES] -= 1
        return not self._words[Context.TICKS_LEFT // _WORD_BYTES]

    def _get(self, word: Context) -> int:
        return int(self._words[word // _WORD_BYTES])

    def _set(self, word: Context, value: int) -> None:
        self._words[word // _WORD_BYTES] = value


@cache
def _host_code(code: bytes) -> Any:
    """The assembled loop as a function; mapped once for the process, and never writable and executable at once.

    Raises:
        SystemCallError: the host forbids it, as SELinux does without the permission execmem.
    """
    size = len(code)
    memory = lib.mmap(ffi.NULL, size, lib.PROT_READ | lib.PROT_WRITE, lib.MAP_PRIVATE | lib.MAP_ANONYMOUS, -1, 0)
    if address_of(memory) == _NO_LIMIT:  # MAP_FAILED
        raise SystemCallError("mmap of the run loop", ffi.errno)
    ffi.memmove(memory, code, size)
    if lib.mprotect(memory, size, lib.PROT_READ | lib.PROT_EXEC) < 0:
        errno = ffi.errno
        lib.munmap(memory, size)
        raise SystemCallError("mprotect of the run loop to executable", errno)
    return ffi.cast("int64_t (*)(uint64_t *)", memory)
