"""The watchdog: it ends what hangs, and leaves no trace of itself."""

import re
import signal
import time
from pathlib import Path

import pytest

from kvmharness.guest import watchdog
from kvmharness.guest.watchdog import GuestHungError, Watchdog
from kvmharness.kvm.exits import HltExit
from tests.guest.machines import long_mode

pytestmark = pytest.mark.needs("kvm")

both_loops = pytest.mark.parametrize("native", [True, False], ids=["native", "python"])


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """No signal pending, the mask as it was, no timer."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    assert signal.sigpending() == set()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    assert Path("/proc/self/timers").read_text() == ""


@both_loops
def test_a_guest_that_spins_is_stopped_with_its_registers(native):
    began = time.monotonic()
    with (
        long_mode("entry: mov esp, 0x1230\nspin: jmp spin", native=native) as guest,
        pytest.raises(GuestHungError, match=r"no sign for 0\.2 s") as caught,
        Watchdog(guest.loop, 0.2),
    ):
        guest.loop.run()
    assert 0.2 <= time.monotonic() - began < 5
    assert f"RIP {guest.image.symbols['spin']:#x}, RSP 0x1230" in str(caught.value)
    assert re.search(r"RFLAGS 0x[0-9a-f]+", caught.value.state)


def test_a_guest_that_exits_without_end_is_stopped_too():
    """The loop never shows these exits to Python; the signal must come through all the same."""
    with (
        long_mode("entry: out PORT_TICK, al\n jmp entry") as guest,
        pytest.raises(GuestHungError),
        Watchdog(guest.loop, 0.1),
    ):
        guest.loop.run()


def test_a_timer_that_fired_between_two_runs_ends_the_next_one():
    with long_mode("entry: jmp entry") as guest, Watchdog(guest.loop, 0.001):
        time.sleep(0.05)
        with pytest.raises(GuestHungError):
            guest.loop.run()


def test_a_timer_that_fires_when_nothing_runs_hurts_nobody():
    with long_mode("entry: hlt") as guest:
        with Watchdog(guest.loop, 0.001):
            time.sleep(0.05)
        assert guest.loop.run() == HltExit()


def test_a_guest_in_time_is_left_alone_and_can_be_watched_again():
    with long_mode("entry: hlt\n jmp entry") as guest:
        for _ in range(3):
            with Watchdog(guest.loop, 10):
                assert guest.loop.run() == HltExit()


def test_the_vcpu_can_go_on_after_it_was_stopped():
    with long_mode("entry: mov rax, [rdi]\n test rax, rax\n jz entry\n hlt") as guest:
        with pytest.raises(GuestHungError), Watchdog(guest.loop, 0.05):
            guest.loop.run()
        guest.memory.write_u64(0x2000, 1)
        with Watchdog(guest.loop, 10):
            assert guest.loop.run() == HltExit()


@pytest.mark.parametrize("timeout_s", [0, -1])
def test_no_time_at_all_is_refused(timeout_s):
    """timer_settime() takes 0 for "never"."""
    with long_mode("entry: hlt") as guest, pytest.raises(ValueError, match="timeout"):
        Watchdog(guest.loop, timeout_s)


def test_the_signal_is_nobody_elses():
    assert signal.SIGRTMIN < watchdog.SIGNAL < signal.SIGRTMAX
