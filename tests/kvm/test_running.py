"""Guests of a few bytes on the local device: every exit they can provoke, signals, and state that comes back."""

import errno
import os
import signal
import time
from dataclasses import replace

import pytest

from kvmharness.abi.constants import Cap, GuestDebug, InternalErrorKind, IoDirection, MemFlag
from kvmharness.abi.errors import IoctlError
from kvmharness.kvm import Regs, exits
from tests.kvm import real_mode as guests

pytestmark = pytest.mark.needs("kvm")


def test_a_guest_adds_prints_and_halts(vm):
    vcpu = guests.load(vm, guests.OUT_AL_HLT)
    vcpu.set_regs(vcpu.get_regs().replace(rax=ord("A")))
    assert vcpu.run() == exits.IoExit(IoDirection.OUT, 1, 0x3F8, 1, b"A")
    assert vcpu.run() == exits.HltExit()
    assert vcpu.get_regs().rip == guests.CODE_GPA + len(guests.OUT_AL_HLT)


def test_an_exit_survives_the_next_run(vm):
    vcpu = guests.load(vm, guests.OUT_AX_TWICE)
    first = vcpu.run()
    second = vcpu.run()
    assert (first.value, second.value) == (0x1234, 0x1235)


def test_in_reads_what_it_is_given(vm):
    vcpu = guests.load(vm, guests.IN_AX_OUT)
    assert vcpu.run() == exits.IoExit(IoDirection.IN, 2, 0x40, 1, b"")
    with pytest.raises(ValueError, match="1 bytes for an IN of 2"):
        vcpu.set_io_data(b"x")
    vcpu.set_io_data(b"\xcd\xab")
    assert vcpu.run().value == 0xABCD
    with pytest.raises(ValueError, match="not an IN"):
        vcpu.set_io_data(b"xx")


def test_mmio_read(vm):
    vcpu = guests.load(vm, guests.READ_FAR_BYTE)
    assert vcpu.run() == exits.MmioExit(0x80000, b"\0", False)
    with pytest.raises(ValueError, match="2 bytes for an MMIO read of 1"):
        vcpu.set_mmio_data(b"xy")
    vcpu.set_mmio_data(b"\x42")
    assert vcpu.run().value == 0x42
    with pytest.raises(ValueError, match="not an MMIO read"):
        vcpu.set_mmio_data(b"x")


def test_mmio_write(vm):
    vcpu = guests.load(vm, guests.WRITE_FAR_WORD)
    assert vcpu.run() == exits.MmioExit(0x80004, b"\xcd\xab", True)


def test_a_triple_fault_is_a_shutdown(vm):
    vcpu = guests.load(vm, guests.UD2)
    sregs = vcpu.get_sregs()
    sregs.cr0 |= 1  # protected mode, where every exception needs a gate
    sregs.cs = replace(sregs.cs, base=0, selector=8, limit=0xFFFFFFFF, type=11, db=1, g=1)
    sregs.ds = sregs.es = sregs.ss = replace(sregs.cs, selector=16, type=3)
    sregs.idt.limit = 0
    vcpu.set_sregs(sregs)
    assert vcpu.run() == exits.ShutdownExit()


def test_a_write_to_read_only_memory_is_mmio(vm):
    vcpu = guests.load(vm, guests.STORE_AT_3000, memory_bytes=0x3000)
    rom = vm.add_memory(0x3000, 0x1000, flags=MemFlag.READONLY)
    assert vcpu.run() == exits.MmioExit(0x3000, b"\x5a", True)
    assert rom.read(0x3000, 1) == b"\0"


def test_single_step(vm):
    vcpu = guests.load(vm, guests.OUT_AX_TWICE)
    vcpu.set_guest_debug(GuestDebug.ENABLE | GuestDebug.SINGLESTEP)
    exit_ = vcpu.run()
    assert isinstance(exit_, exits.DebugExit)
    assert exit_.pc == guests.CODE_GPA + 3  # mov ax, imm16 is three bytes long
    vcpu.set_guest_debug(0)
    assert vcpu.run().value == 0x1234


def test_hardware_breakpoint(vm):
    vcpu = guests.load(vm, guests.OUT_AX_TWICE)
    at = guests.CODE_GPA + 5  # inc ax
    vcpu.set_guest_debug(GuestDebug.ENABLE | GuestDebug.USE_HW_BP, (at, 0, 0, 0, 0, 0, 0, 0b11))
    assert vcpu.run().value == 0x1234
    assert vcpu.run().pc == at


def test_immediate_exit_ends_one_run(vm):
    vcpu = guests.load(vm, guests.HLT)
    vcpu.kvm_run.immediate_exit = 1
    assert vcpu.run() == exits.IntrExit()
    assert vcpu.run() == exits.HltExit()


class Alarm:
    """A timer signal after 20 ms, again and again; its handler counts and may raise at one of them."""

    def __init__(self, raise_at=None):
        self.count = 0
        self.raise_at = raise_at

    def __enter__(self):
        self.before = signal.signal(signal.SIGALRM, self.handle)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        return self

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)

    def handle(self, *_):
        self.count += 1
        if self.count == self.raise_at:
            raise InterruptedError("by the test")


def test_a_handler_that_returns_only_delays(vm):
    vcpu = guests.load(vm, guests.SPIN)
    with Alarm(raise_at=3) as alarm, pytest.raises(InterruptedError, match="by the test"):
        vcpu.run()
    assert alarm.count == 3


def test_a_guest_goes_on_after_an_exception_of_a_handler(vm):
    vcpu = guests.load(vm, guests.SPIN)
    with Alarm(raise_at=1), pytest.raises(InterruptedError):
        vcpu.run()
    vm.memory[0].write(guests.CODE_GPA, guests.HLT)
    assert vcpu.run() == exits.HltExit()


def test_without_resume_a_signal_ends_the_run(vm):
    vcpu = guests.load(vm, guests.SPIN)
    with Alarm() as alarm:
        assert vcpu.run(resume=False) == exits.IntrExit()
    assert alarm.count >= 1


def test_signal_mask_opens_during_the_run_only(vm):
    vcpu = guests.load(vm, guests.SPIN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    try:
        with Alarm() as alarm:
            vcpu.set_signal_mask(0)
            assert vcpu.run(resume=False) == exits.IntrExit()
            assert alarm.count == 0  # it is pending, and blocked again
            vcpu.set_signal_mask(None)
            assert signal.sigtimedwait({signal.SIGALRM}, 1).si_signo == signal.SIGALRM
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def test_another_process_may_not_use_the_vcpu(vm):
    vcpu = guests.load(vm, guests.HLT)
    child = os.fork()
    if child == 0:
        try:
            vcpu.get_regs()
        except IoctlError as error:
            os._exit(0 if error.errno == errno.EIO and "another process" in error.hint else 2)
        except BaseException:
            os._exit(3)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_interrupt_is_delivered(vm):
    # sti; hlt; the handler at 0x2000 halts too, so that RIP tells where it stopped
    vcpu = guests.load(vm, bytes.fromhex("fb f4 f4"))
    memory = vm.memory[0]
    memory.write(0x20 * 4, (0x2000).to_bytes(4, "little"))  # real-mode vector: offset, then segment 0
    memory.write(0x2000, guests.HLT)
    assert vcpu.run() == exits.HltExit()
    vcpu.interrupt(0x20)
    assert vcpu.run() == exits.HltExit()
    assert vcpu.get_regs().rip == 0x2001


def test_an_nmi_is_delivered(vm):
    vcpu = guests.load(vm, bytes.fromhex("f4 f4"))
    memory = vm.memory[0]
    memory.write(2 * 4, (0x2000).to_bytes(4, "little"))
    memory.write(0x2000, guests.HLT)
    assert vcpu.run() == exits.HltExit()
    vcpu.nmi()
    assert vcpu.run() == exits.HltExit()
    assert vcpu.get_regs().rip == 0x2001


def test_msr_exits_can_be_asked_for(vm):
    if not vm.check_extension(Cap.X86_USER_SPACE_MSR):
        pytest.skip("KVM_CAP_X86_USER_SPACE_MSR: needs Linux 5.10")
    vm.enable_cap(Cap.X86_USER_SPACE_MSR, 0b10)  # unknown MSRs
    vcpu = guests.load(vm, guests.RDMSR_1234)
    exit_ = vcpu.run()
    assert (exit_.index, exit_.is_write) == (0x1234, False)


def test_nothing_to_execute_is_an_internal_error(vm):
    """Code in a hole: KVM cannot fetch the instruction to emulate it."""
    vcpu = guests.load(vm, guests.HLT)
    vcpu.set_regs(Regs(rip=0xF000))
    vm.delete_memory(0)
    exit_ = vcpu.run()
    assert isinstance(exit_, exits.InternalErrorExit)
    assert exit_.suberror == InternalErrorKind.EMULATION


def test_exits_are_not_slow(vm):
    vcpu = guests.load(vm, bytes.fromhex("e6 80 eb fc"))  # out 0x80, al; jmp back
    start = time.perf_counter()
    for _ in range(1000):
        vcpu.run()
    assert time.perf_counter() - start < 5


def test_a_line_of_the_interrupt_controllers_goes_up(vm):
    """Port 0x20 answers with the requests of the first 8259A after its third operation command word, 0x0a."""
    vm.create_irqchip()
    vcpu = guests.load(vm, b"\xb0\x0a\xe6\x20\xe4\x20\xe6\x80")  # mov al, 10; out 0x20, al; in al, 0x20; out 0x80, al
    vm.irq_line(5, 1)
    assert vcpu.run() == exits.IoExit(IoDirection.OUT, 1, 0x80, 1, bytes((1 << 5,)))
