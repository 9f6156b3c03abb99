"""Programs put into VMs: what the vCPU has before its first instruction, and that it runs."""

import pytest

from kvmharness.guest import shipped as programs
from kvmharness.guest.failures import GuestException, explain
from kvmharness.guest.layout import Doorbell, Place, Port
from kvmharness.guest.session import Session
from kvmharness.guest.watchdog import Watchdog
from kvmharness.kvm.exits import HltExit, IoExit
from tests.guest.machines import inline, long_mode

pytestmark = pytest.mark.needs("kvm")

# L1's handlers want the labels of the doorbell protocol.
PROTOCOL = '\nround_trip: jmp next_round_trip\n .include "phases.inc"\n .include "exceptions.inc"'


def test_hello_prints_its_text_and_halts():
    hello = programs.image("hello")
    printed = b""
    with long_mode(hello) as guest, Watchdog(guest.loop, 10):
        while isinstance(found := guest.loop.run(), IoExit):
            assert (found.port, found.size) == (Port.CONSOLE, 1)
            printed += found.data
    assert found == HltExit()
    assert printed == b"hello from L1\n"


def test_registers_are_what_the_contract_says():
    with long_mode("entry: hlt") as guest:
        regs, sregs = guest.vcpu.get_regs(), guest.vcpu.get_sregs()
        assert (regs.rdi, regs.rbx, regs.rsp, regs.r12) == (Place.MAILBOX, Place.ROWS, Place.STACK_TOP, 0)
        assert (regs.rip, regs.rflags) == (Place.L1_CODE, 0x202)  # SDM vol. 1, fig. 3-8: bit 1 is always 1, bit 9 is IF
        assert sregs.efer & 0x500 == 0x500, "LME and LMA"
        assert (sregs.cs.l, sregs.cs.dpl, sregs.cs.selector) == (1, 0, 8)
        assert guest.loop.run() == HltExit()


def test_the_program_is_in_memory():
    image = inline("entry: mov eax, 0x12345678\n hlt")
    with long_mode(image) as guest:
        assert guest.memory.read(image.origin, len(image.code)) == image.code
        assert guest.loop.run() == HltExit()
        assert guest.vcpu.get_regs().rax == 0x12345678


@pytest.mark.parametrize(
    ("code", "vector", "words"),
    [
        ("ud2", 6, "L1 took exception 6"),
        ("mov rax, [0x500000]", 14, "error code 0x0, CR2 0x500000"),
        ("mov dword ptr [0x500004], 0x1", 14, "error code 0x2, CR2 0x500004"),
        ("mov ecx, 0xc0000080\n rdmsr\n or eax, 0x2\n wrmsr", 13, "error code 0x0"),
        ("xor ecx, ecx\n div ecx", 0, "L1 took exception 0"),
        ("mov ax, 0x40\n mov ds, ax", 13, "error code 0x40"),
    ],
    ids=["invalid opcode", "read", "write", "wrmsr", "divide", "selector"],
)
def test_an_exception_in_l1_is_decoded(code, vector, words):
    *before, fault = code.split("\n")
    image = inline("\n".join(["entry: nop", *before, f"fault: {fault}"]) + PROTOCOL)
    with long_mode(image) as guest:
        session = Session(guest.loop, guest.memory, timeout_s=10, explain=lambda failed: explain(failed, vendor=None))
        with pytest.raises(GuestException) as caught:
            session.start()
    assert caught.value.vector == vector
    assert caught.value.rip == image.symbols["fault"]
    assert words in str(caught.value)
    assert f"at {image.symbols['fault']:#x}" in str(caught.value)


def test_l1_can_ring_every_doorbell():
    code = "\n".join(f" mov eax, {int(bell):#x}\n out PORT_DOORBELL, eax" for bell in Doorbell)
    with long_mode(f"entry: nop\n{code}\n hlt") as guest:
        for bell in Doorbell:
            found = guest.loop.run()
            assert isinstance(found, IoExit)
            assert (found.port, found.value) == (Port.DOORBELL, bell)
