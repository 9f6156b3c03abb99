"""The assembled loop against the one in Python: the same exits, the same counts."""

import os
import signal
import threading

import pytest

from kvmharness.abi.binding import IoctlError, SystemCallError
from kvmharness.abi.constants import ExitReason
from kvmharness.guest import loopcontext, runloop
from kvmharness.guest import shipped as programs
from kvmharness.guest.layout import Port
from kvmharness.guest.runloop import RunLoop
from kvmharness.guest.watchdog import Watchdog
from kvmharness.kvm.exits import HltExit, IoExit, MmioExit, ShutdownExit
from tests.guest.machines import long_mode

both_loops = pytest.mark.parametrize("native", [True, False], ids=["native", "python"])


def test_the_context_has_one_word_each():
    offsets = sorted(runloop.Context)
    assert offsets == list(range(0, 8 * len(offsets), 8))
    assert offsets[-1] == runloop.Context.COUNTS


def test_symbols_are_the_kernels():
    """linux/kvm.h and asm/unistd_64.h."""
    names = loopcontext.symbols()
    assert names["IOCTL_KVM_RUN"] == 0xAE80
    assert names["SYSCALL_IOCTL"] == 16
    assert names["REASON_IO"] == 2
    assert (names["RUN_EXIT_REASON"], names["RUN_IO_PORT"]) == (8, 34)


@pytest.mark.needs("kvm")
@both_loops
@pytest.mark.parametrize("ticks", [1, 2, 1000])
def test_ticks_are_counted_and_the_last_one_is_seen(native, ticks):
    with long_mode(programs.image("tick"), native=native) as guest:
        assert guest.loop.native is native
        with Watchdog(guest.loop, 10):
            found = guest.loop.run(max_ticks=ticks)
        assert isinstance(found, IoExit)
        assert (found.port, found.size, found.data) == (Port.TICK, 1, b"\0")
        assert guest.loop.counts == {ExitReason.IO: ticks}


@pytest.mark.needs("kvm")
@both_loops
def test_other_exits_come_out_with_what_they_carry(native):
    code = "entry: out PORT_TICK, al\n mov eax, 0x41\n out PORT_CONSOLE, al\n hlt"
    with long_mode(code, native=native) as guest:
        with Watchdog(guest.loop, 10):
            assert guest.loop.run() == IoExit(1, 1, Port.CONSOLE, 1, b"A")
            assert guest.loop.run() == HltExit()
        assert guest.loop.counts == {ExitReason.IO: 2, ExitReason.HLT: 1}


@pytest.mark.needs("kvm")
@both_loops
def test_a_triple_fault_is_a_shutdown(native):
    # No handlers in this program, so the first exception finds an empty IDT.
    with long_mode("entry: ud2", native=native) as guest, Watchdog(guest.loop, 10):
        assert guest.loop.run() == ShutdownExit()


@pytest.mark.needs("kvm")
@both_loops
def test_mmio(native):
    # L1's tables map 4 MiB; behind the second half of them there is no memory any more.
    with long_mode("entry: mov eax, 0x42\n mov [rdi], al\n hlt", native=native) as guest:
        guest.vm.set_user_memory_region(guest.memory.slot, 0, 0, 0)
        guest.vm.set_user_memory_region(guest.memory.slot, 0, 0x200000, guest.memory.hva)
        regs = guest.vcpu.get_regs()
        regs.rdi = 0x300000
        guest.vcpu.set_regs(regs)
        with Watchdog(guest.loop, 10):
            assert guest.loop.run() == MmioExit(0x300000, b"B", True)
            assert guest.loop.run() == HltExit()


@pytest.mark.needs("kvm")
@both_loops
def test_a_signal_whose_handler_returns_only_delays_the_guest(native):
    """The handler lets the guest go on to its end: had KVM_RUN not come back for it, nobody would."""
    seen = []
    with long_mode("entry: mov rax, [rdi]\n test rax, rax\n jz entry\n hlt", native=native) as guest:

        def release(*_):
            seen.append(guest.memory.read_u64(0x2000))
            guest.memory.write_u64(0x2000, 1)

        before = signal.signal(signal.SIGUSR1, release)
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        try:
            with Watchdog(guest.loop, 20):
                assert guest.loop.run() == HltExit()
        finally:
            timer.join()
            signal.signal(signal.SIGUSR1, before)
    assert seen == [0]


@pytest.mark.needs("kvm")
@both_loops
def test_ctrl_c_ends_a_guest_that_spins_and_leaves_nothing_open(native):
    opened = []

    def spin():
        with long_mode("entry: jmp entry", native=native) as guest, Watchdog(guest.loop, 20):
            opened.append(guest)
            timer.start()
            guest.loop.run()

    fds = os.listdir("/proc/self/fd")
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        spin()
    timer.join()
    assert os.listdir("/proc/self/fd") == fds
    assert opened[0].vcpu.fd == opened[0].vm.fd == -1


@pytest.mark.needs("kvm")
@both_loops
def test_a_vcpu_used_from_a_forked_process_says_why_it_fails(native):
    with long_mode("entry: hlt", native=native) as guest:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                guest.loop.run()
            except IoctlError as e:
                os.write(writer, f"{e.errno} {e} / {e.hint}".encode())
            finally:
                os._exit(0)
        os.close(writer)
        os.waitpid(child, 0)
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read().decode()
        assert guest.loop.run() == HltExit(), "the VM still belongs to the process that made it"
    assert said.startswith("5 "), said
    assert "KVM_RUN" in said
    assert "fork" in said


@pytest.mark.needs("kvm")
def test_where_executable_memory_is_forbidden_python_takes_over(monkeypatch):
    def forbidden(code):
        raise SystemCallError("mprotect of the run loop to executable", 13)

    monkeypatch.setattr(runloop, "_host_code", forbidden)
    with long_mode(programs.image("tick"), native=None) as guest:
        assert not guest.loop.native
        assert "mprotect" in guest.loop.fallback_reason
        with Watchdog(guest.loop, 10):
            guest.loop.run(max_ticks=5)
        assert guest.loop.counts == {ExitReason.IO: 5}
        with pytest.raises(SystemCallError, match="mprotect"):
            RunLoop(guest.vcpu, programs.run_loop(), native=True)
