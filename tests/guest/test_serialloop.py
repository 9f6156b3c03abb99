"""The loop that is the other end of a serial port: what is printed is gathered, everything else comes out."""

import pytest

from kvmharness.abi.constants import ExitReason, IoDirection
from kvmharness.guest.serialloop import COM1, SerialLoop, coalesce, printing
from kvmharness.guest.shipped import serial_loop
from kvmharness.guest.watchdog import Watchdog
from kvmharness.kvm.exits import HltExit, IoExit
from tests.guest.machines import long_mode

pytestmark = pytest.mark.needs("kvm")

both_loops = pytest.mark.parametrize("code", [serial_loop, lambda: None], ids=["native", "python"])

# One byte of rbx after the other, until there is none.
PRINT = """
entry:  mov   ecx, 0x3fd
again:  mov   edx, ecx
        in    al, dx
        test  al, 0x20
        jz    again
        mov   al, bl
        mov   edx, 0x3f8
        out   dx, al
        shr   rbx, 0x8
        jnz   again
        hlt
"""


def run(text, rbx, code):
    """The exits that Python sees, each with what had been printed by then, and the counts."""
    seen = []
    with long_mode(text) as guest:
        guest.vcpu.set_regs(guest.vcpu.get_regs().replace(rbx=rbx))
        loop = SerialLoop(guest.vcpu, code())
        with Watchdog(loop, 10):
            while not seen or not isinstance(seen[-1][0], HltExit):
                seen.append((loop.run(), loop.printed()))
        return seen, loop.counts


@both_loops
def test_a_line_is_gathered(code):
    seen, counts = run(PRINT, int.from_bytes(b"one\ntwo", "little"), code)
    assert seen == [(IoExit(IoDirection.OUT, 1, COM1, 1, b"\n"), b"one\n"), (HltExit(), b"two")]
    assert [printing(exit_) for exit_, _ in seen] == [True, False]
    assert counts == {ExitReason.IO: 14, ExitReason.HLT: 1}


@both_loops
def test_a_buffer_that_is_full_comes_out(code):
    # Without an end of line: 600 times the same letter.
    source = "entry: mov ecx, 0x258\n mov edx, 0x3f8\n mov al, 0x61\nagain: out dx, al\n loop again\n hlt"
    seen, _ = run(source, 0, code)
    assert [printed for _, printed in seen] == [b"a" * 512, b"a" * 88]


@both_loops
@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("mov edx, 0x3f8\n out dx, ax", IoExit(IoDirection.OUT, 2, 0x3F8, 1, b"\x41\x42")),
        ("mov edx, 0x3f9\n out dx, al", IoExit(IoDirection.OUT, 1, 0x3F9, 1, b"\x41")),
        ("mov edx, 0x3f8\n in al, dx", IoExit(IoDirection.IN, 1, 0x3F8, 1, b"")),
        ("mov edx, 0x3fd\n in ax, dx", IoExit(IoDirection.IN, 2, 0x3FD, 1, b"")),
        ("mov edx, 0x3fe\n in al, dx", IoExit(IoDirection.IN, 1, 0x3FE, 1, b"")),
        ("mov edx, 0x3fd\n out dx, al", IoExit(IoDirection.OUT, 1, 0x3FD, 1, b"\x41")),
    ],
)
def test_any_other_access_is_pythons(code, instruction, expected):
    seen, _ = run(f"entry: mov eax, 0x4241\n {instruction}\n hlt", 0, code)
    assert seen == [(expected, b""), (HltExit(), b"")]
    assert not printing(expected)


@both_loops
@pytest.mark.parametrize("length", [3, 170, 171, 600])
def test_what_the_kernel_keeps_comes_in_order(code, length):
    """The ring has (4096 - 8) / 24 entries: 170, one of which stays free; a byte that finds none makes an exit."""
    source = f"""
    entry:  mov ecx, {length:#x}
            mov edx, 0x3f8
            mov eax, 0x41
    again:  out dx, al
            inc eax
            and eax, 0x7f
            loop again
            hlt"""
    with long_mode(source) as guest:
        if not coalesce(guest.vm):
            pytest.skip("this host's KVM does not coalesce ports")
        loop = SerialLoop(guest.vcpu, code(), coalesced=True)
        printed = b""
        exit_ = None
        with Watchdog(loop, 10):
            while not isinstance(exit_, HltExit):
                exit_ = loop.run()
                printed += loop.printed()
    assert printed == bytes((0x41 + number) & 0x7F for number in range(length))
    assert loop.counts.get(ExitReason.IO, 0) == length // 170
