"""The watchdog's means: a timer that signals one thread, and a wait for it with a deadline."""

import pytest

from kvmharness.abi.binding import ffi, lib


@pytest.fixture
def blocked_usr1():
    signals, before = ffi.new("sigset_t *"), ffi.new("sigset_t *")
    lib.sigemptyset(signals)
    lib.sigaddset(signals, lib.SIGUSR1)
    assert lib.pthread_sigmask(lib.SIG_BLOCK, signals, before) == 0
    yield signals
    assert lib.pthread_sigmask(lib.SIG_SETMASK, before, ffi.NULL) == 0


def test_a_timer_signals_its_thread(blocked_usr1):
    event = ffi.new("struct sigevent *")
    event.sigev_notify = lib.SIGEV_THREAD_ID
    event.sigev_signo = lib.SIGUSR1
    event._sigev_un._tid = lib.syscall(lib.SYS_gettid)
    timer = ffi.new("timer_t *")
    assert lib.timer_create(lib.CLOCK_MONOTONIC, event, timer) == 0
    try:
        value = ffi.new("struct itimerspec *", {"it_value": {"tv_nsec": 1_000_000}})
        assert lib.timer_settime(timer[0], 0, value, ffi.NULL) == 0
        deadline = ffi.new("struct timespec *", {"tv_sec": 10})
        assert lib.sigtimedwait(blocked_usr1, ffi.NULL, deadline) == lib.SIGUSR1
    finally:
        assert lib.timer_delete(timer[0]) == 0
