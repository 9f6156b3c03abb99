"""The doorbell protocol, kept and broken."""

import pytest

from kvmharness.errors import GuestError
from kvmharness.guest import loader
from kvmharness.guest.failures import explain
from kvmharness.guest.layout import SAMPLES_MAX, Mailbox, Place
from kvmharness.guest.session import Session
from kvmharness.guest.stops import UnexpectedExit
from kvmharness.guest.watchdog import GuestHungError
from kvmharness.kvm.errors import GuestShutdownError
from kvmharness.kvm.exits import HltExit
from tests.guest.machines import long_mode

pytestmark = pytest.mark.needs("kvm")

NOTHING_TO_DO = 'entry: jmp ready\nround_trip: jmp next_round_trip\n .include "phases.inc"'
RING = " mov eax, {}\n out PORT_DOORBELL, eax\n"
READY_BEGIN = "entry: nop\n" + RING.format("DOORBELL_READY") + RING.format("DOORBELL_BEGIN")


def session(guest, rows=1, timeout_s=10.0):
    for gpa, data in loader.mailbox(rows).items():
        guest.memory.write(gpa, data)
    return Session(guest.loop, guest.memory, timeout_s=timeout_s, explain=lambda failed: explain(failed, vendor=None))


def test_phases_samples_and_round_trips():
    with long_mode(NOTHING_TO_DO) as guest:
        driven = session(guest)
        samples = driven.phase(3, 5)
        assert len(samples) == 3
        assert all(sample > 0 for sample in samples)
        assert driven.round_trips == 15
        assert len(driven.phase(1, 7)) == 1
        assert driven.round_trips == 22
        driven.finish()
        assert guest.loop.run() == HltExit()


def test_rows_are_used_in_turn():
    """The guest adds up the first word of each row it gets to."""
    code = (
        "entry: xor r13d, r13d\n jmp ready\n"
        "round_trip: add r13, [rbx]\n mov [rdi + MAIL_SEEN], r13\n jmp next_round_trip\n"
        ' .include "phases.inc"'
    )
    with long_mode(code) as guest:
        for row, value in enumerate((1, 10, 100)):
            guest.memory.write_u64(Place.ROWS + 64 * row, value)
        driven = session(guest, rows=3)
        driven.phase(1, 4)
        assert guest.memory.read_u64(Place.MAILBOX + Mailbox.SEEN) == 112
        driven.phase(1, 3)
        assert guest.memory.read_u64(Place.MAILBOX + Mailbox.SEEN) == 223


def test_the_hooks_are_called_right_around_the_round_trips():
    with long_mode(NOTHING_TO_DO) as guest:
        driven = session(guest)
        seen = []
        driven.phase(
            1,
            4,
            on_begin=lambda: seen.append(("begin", driven.round_trips)),
            on_end=lambda: seen.append(("end", driven.round_trips)),
        )
    assert seen == [("begin", 0), ("end", 4)]


def test_what_was_switched_on_is_switched_off_when_the_guest_dies():
    ended = []
    with long_mode(READY_BEGIN + "ud2") as guest:
        driven = session(guest)
        with pytest.raises(GuestShutdownError, match="triple fault"):
            driven.phase(1, 1, on_end=lambda: ended.append(True))
    assert ended == [True]


@pytest.mark.parametrize(("batches", "size"), [(0, 1), (1, 0), (SAMPLES_MAX + 1, 1)])
def test_impossible_phases_are_refused(batches, size):
    with long_mode(NOTHING_TO_DO) as guest, pytest.raises(ValueError, match="batches"):
        session(guest).phase(batches, size)


@pytest.mark.parametrize(
    ("bell", "text"),
    [("DOORBELL_END", "rang the doorbell END where READY belongs"), ("0x63", "the doorbell 0x63 where READY belongs")],
)
def test_the_wrong_doorbell(bell, text):
    code = "entry: nop\n" + RING.format(bell) + "hlt"
    with long_mode(code) as guest, pytest.raises(GuestError, match=text) as caught:
        session(guest).start()
    assert "protocol" in caught.value.hint


def test_a_guest_that_halts():
    with long_mode("entry: hlt") as guest, pytest.raises(UnexpectedExit, match="halted where doorbell READY") as caught:
        session(guest).start()
    assert caught.value.exit == HltExit()


def test_a_guest_that_uses_another_port():
    with long_mode("entry: out 0x80, al") as guest, pytest.raises(UnexpectedExit, match="port=0x80"):
        session(guest).start()


def test_a_triple_fault():
    with long_mode("entry: ud2") as guest, pytest.raises(GuestShutdownError):
        session(guest).start()


def test_a_guest_that_never_rings():
    with long_mode("entry: jmp entry") as guest, pytest.raises(GuestHungError, match="RIP 0x10000"):
        session(guest, timeout_s=0.1).start()


def test_a_guest_that_hangs_in_a_phase():
    with long_mode(READY_BEGIN + "spin: jmp spin") as guest, pytest.raises(GuestHungError):
        session(guest, timeout_s=0.1).phase(1, 1)
