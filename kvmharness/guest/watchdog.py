"""Ends a guest that never exits.

A POSIX timer sends a signal to the vCPU's thread. The signal is blocked in the thread and let through only inside
KVM_RUN (KVM_SET_SIGNAL_MASK), so no handler is installed, no other code can lose it, and a timer that fires between two
runs ends the next one at once.

Source: api.rst, "KVM_SET_SIGNAL_MASK"; timer_create(2), SIGEV_THREAD_ID.
"""

from _thread import get_native_id
from functools import cache
from types import TracebackType
from typing import Any, Self

from kvmharness.abi.binding import SystemCallError, ffi, lib
from kvmharness.errors import GuestError
from kvmharness.guest.runloop import RunLoop

SIGNAL = 40  # a real-time signal that neither glibc (32, 33) nor Python uses
_NS_PER_S = 1_000_000_000


class GuestHungError(GuestError):
    """A guest made no exit for longer than it was allowed to.

    Attributes:
        state: the vCPU's registers when it was stopped.
    """

    def __init__(self, timeout_s: float, state: str) -> None:
        super().__init__(
            f"the guest gave no sign for {timeout_s:g} s and was stopped {state}",
            "It spins or waits for an interrupt that nobody sends; a slow host may need a longer timeout.",
        )
        self.state = state


# Each phase of a guest has a watchdog; what the kernel only reads is made once.
@cache
def _own() -> Any:
    """The ``sigset_t`` of the signal alone."""
    signals = ffi.new("sigset_t *")
    lib.sigemptyset(signals)
    lib.sigaddset(signals, SIGNAL)
    return signals


@cache
def _event(thread: int) -> Any:
    """The ``struct sigevent`` that sends the signal to a thread."""
    event = ffi.new("struct sigevent *")
    event.sigev_notify = lib.SIGEV_THREAD_ID
    event.sigev_signo = SIGNAL
    event._sigev_un._tid = thread
    return event


@cache
def _after(timeout_s: float) -> Any:
    """A ``struct itimerspec`` that is over once."""
    when = ffi.new("struct itimerspec *")
    when.it_value.tv_sec, when.it_value.tv_nsec = divmod(max(1, int(timeout_s * _NS_PER_S)), _NS_PER_S)
    return when


@cache
def _at_once() -> Any:
    return ffi.new("struct timespec *")


class Watchdog:
    """A time limit on what a vCPU does inside the ``with`` block. Not reentrant: one at a time for a vCPU.

    Args:
        loop: of the vCPU, run by this thread.
        timeout_s: seconds from entering the block on.

    Raises:
        GuestHungError: from :meth:`RunLoop.run` inside the block.
        SystemCallError: the timer cannot be had.
        ValueError: no time at all.
    """

    def __init__(self, loop: RunLoop, timeout_s: float) -> None:
        if timeout_s <= 0:
            raise ValueError(f"a timeout of {timeout_s:g} s: it must be more than nothing")
        self._loop, self._timeout_s = loop, timeout_s
        self._timer: Any = None
        self._before = ffi.new("sigset_t *")

    def __enter__(self) -> Self:
        lib.pthread_sigmask(lib.SIG_BLOCK, _own(), self._before)
        try:
            self._arm()
        except BaseException:
            self._disarm()
            raise
        self._loop.on_interrupted = self._interrupted
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.on_interrupted = None
        self._disarm()

    def _arm(self) -> None:
        self._loop.vcpu.set_signal_mask(ffi.cast("uint64_t *", self._before)[0])
        timer = ffi.new("timer_t *")
        if lib.timer_create(lib.CLOCK_MONOTONIC, _event(get_native_id()), timer) < 0:
            raise SystemCallError("timer_create", ffi.errno)
        self._timer = timer[0]
        if lib.timer_settime(self._timer, 0, _after(self._timeout_s), ffi.NULL) < 0:
            raise SystemCallError("timer_settime", ffi.errno)

    def _disarm(self) -> None:
        if self._timer is not None:
            lib.timer_delete(self._timer)
            self._timer = None
        self._take_pending()
        lib.pthread_sigmask(lib.SIG_SETMASK, self._before, ffi.NULL)

    def _take_pending(self) -> bool:
        """Whether the signal has come; it is gone afterwards."""
        return bool(lib.sigtimedwait(_own(), ffi.NULL, _at_once()) == SIGNAL)

    def _interrupted(self) -> None:
        """KVM_RUN ended with EINTR: by the timer, or by a signal that is somebody else's business."""
        if self._take_pending():
            regs = self._loop.vcpu.get_regs()
            raise GuestHungError(self._timeout_s, f"at RIP {regs.rip:#x}, RSP {regs.rsp:#x}, RFLAGS {regs.rflags:#x}")
