"""How an emulator's end is understood, with a small program in the emulator's place."""

import signal
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from kvmharness.errors import ExitCode, LostMachineError
from kvmharness.lab.events import Begin, Bye, End, Hello, Output, encode
from kvmharness.lab.inside.frames import frame
from kvmharness.lab.job import AGENT_ENDED, HangError, Job, KernelPanicError, ProtocolError
from kvmharness.lab.machines.process import LOG
from kvmharness.lab.machines.supervisor import supervise
from kvmharness.lab.steps import Call

DATA = Path(__file__).parent / "data"
HELLO, BEGIN, END, BYE = (frame(encode(event)) for event in (Hello("3.11", 1), Begin(0), End(0, None), Bye(3)))


def emulate(folder, body, timeout_s=20.0, silence_s=None, on_event=None):
    """Supervise a Python program *body*, in which say(bytes) writes results and console(text) the console."""
    script = folder / "emulator.py"
    prelude = """
        import os, sys, time, signal
        def say(data): os.write(1, data)
        def console(text):
            with open("console", "a") as file: file.write(text)
    """
    script.write_text(textwrap.dedent(prelude) + textwrap.dedent(body))
    events = []
    supervise(
        [sys.executable, "-S", str(script)],
        Job((Call("a:b"),), timeout_s=timeout_s, silence_s=silence_s),
        on_event or events.append,
        name="the fake",
        console_path=folder / "console",
        folder=folder,
    )
    return events


def test_events_arrive_in_order_and_bye_ends_the_machine(tmp_path):
    events = emulate(tmp_path, f"say(b'noise' + {HELLO + BEGIN + END + BYE!r}); time.sleep(60)")
    assert events == [Hello("3.11", 1), Begin(0), End(0, None), Bye(3)]


@pytest.mark.parametrize(
    ("said", "why"), [(HELLO + BYE, "no result of 1 of 1 steps"), (HELLO + frame(b"{x"), "not JSON"), (BEGIN, "hello")]
)
def test_what_does_not_belong_to_the_job_stops_the_emulator(tmp_path, said, why):
    body = f"open('pid', 'w').write(str(os.getpid())); console('BUG: something\\n'); say({said!r}); time.sleep(60)"
    with pytest.raises(ProtocolError, match=why) as caught:
        emulate(tmp_path, body)
    assert caught.value.console == ("BUG: something",)
    assert not Path("/proc", (tmp_path / "pid").read_text()).exists()


@pytest.mark.parametrize(
    ("log", "reason", "last"),
    [
        ("panic.log", "Fatal exception", "end Kernel panic"),
        pytest.param("panic_cut.log", "Attempted to kill init!", "Kernel Off", marks=pytest.mark.slow),
    ],
)
def test_a_panic_is_told_with_the_consoles_last_lines(tmp_path, log, reason, last):
    text = (DATA / log).read_text()
    with pytest.raises(KernelPanicError, match=reason) as caught:
        emulate(tmp_path, f"say({HELLO + BEGIN!r}); console({text!r}); time.sleep(60)")
    assert "step 0" in str(caught.value)
    assert last in caught.value.console[-1]
    assert any("kvm_mmu_new_pgd" in line for line in caught.value.console)
    assert caught.value.exit_code == ExitCode.LOST


def test_a_panic_after_which_the_emulator_ends_is_a_panic(tmp_path):
    with pytest.raises(KernelPanicError, match="Fatal exception"):
        emulate(tmp_path, f"console({(DATA / 'panic.log').read_text()!r})")


def test_a_panic_that_said_much_is_told_by_its_last_line(tmp_path):
    """A stalled RCU says why, then the stack of what spins, and then once more why: the first is no longer at hand."""
    why = "Kernel panic - not syncing: RCU Stall"
    stack = "".join(f"[   25.1]  nested_vmx_run+{number:#x}\n" for number in range(200))
    with pytest.raises(KernelPanicError, match=r"panicked: RCU Stall$"):
        emulate(tmp_path, f"console({why!r} + chr(10) + {stack!r} + '---[ end {why} ]---' + chr(10))")


def test_a_hang_is_stopped_and_told(tmp_path):
    with pytest.raises(HangError, match=r"not done after 0\.2 s.*step 0") as caught:
        emulate(tmp_path, f"say({HELLO + BEGIN!r}); console('the last line'); time.sleep(60)", timeout_s=0.2)
    assert caught.value.console == ("the last line",)


def test_a_machine_that_falls_silent_is_stopped_before_its_job_must_be_done(tmp_path):
    with pytest.raises(HangError, match=r"silent for 0\.2 s.*step 0"):
        emulate(tmp_path, f"say({HELLO + BEGIN!r})\nwhile True: pass", silence_s=0.2)


def test_one_that_waits_for_the_processor_has_more_time_and_not_for_ever(tmp_path):
    began = time.monotonic()
    with pytest.raises(HangError, match=r"silent for 0\.2 s"):
        emulate(tmp_path, f"say({HELLO + BEGIN!r}); time.sleep(60)", silence_s=0.2)
    assert time.monotonic() - began > 1.0


@pytest.mark.parametrize(
    ("end", "how"),
    [
        ("sys.exit(3)", r"ended \(status 3\)"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("os.kill(os.getpid(), 40)", "killed by signal 40"),
    ],
)
def test_an_emulator_that_ends_early_is_a_lost_machine(tmp_path, end, how):
    with pytest.raises(LostMachineError, match=how) as caught:
        emulate(tmp_path, f"say({HELLO!r}); print('no such device', file=sys.stderr); sys.stderr.flush(); {end}")
    assert "no such device" in caught.value.hint
    assert not isinstance(caught.value, HangError | KernelPanicError)


def test_an_agent_that_ends_early_is_a_lost_machine(tmp_path):
    with pytest.raises(LostMachineError, match="the agent inside ended early") as caught:
        emulate(tmp_path, f"console('MemoryError\\n{AGENT_ENDED} with status 1\\n'); time.sleep(60)")
    assert "MemoryError" in caught.value.console


def test_an_exception_of_the_event_handler_stops_the_emulator(tmp_path):
    def refuse(event):
        raise ZeroDivisionError

    body = f"open('pid', 'w').write(str(os.getpid())); say({HELLO!r}); time.sleep(60)"
    with pytest.raises(ZeroDivisionError):
        emulate(tmp_path, body, on_event=refuse)
    assert not Path("/proc", (tmp_path / "pid").read_text()).exists()


@pytest.mark.slow
def test_ctrl_c_stops_the_emulator(tmp_path):
    timer = threading.Timer(1.0, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        emulate(tmp_path, "open('pid', 'w').write(str(os.getpid())); time.sleep(60)")
    timer.join()
    assert not Path("/proc", (tmp_path / "pid").read_text()).exists()


def test_an_emulator_whose_child_keeps_the_pipe_is_gone_all_the_same(tmp_path):
    """And so is the child, though it writes as fast as it can."""
    body = f"""
        say({HELLO + BEGIN!r})
        if (child := os.fork()) == 0:
            while True: say(b"x" * 4096)
        open("pid", "w").write(str(child))
        os._exit(3)
    """
    began = time.monotonic()
    with pytest.raises(LostMachineError, match=r"ended \(status 3\)"):
        emulate(tmp_path, body, timeout_s=60)
    assert time.monotonic() - began < 5
    child = int((tmp_path / "pid").read_text())
    while runs(child):  # a signal takes a moment
        assert time.monotonic() - began < 10
        time.sleep(0.01)


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_result_that_was_written_before_the_end_counts(tmp_path):
    body = f"say({HELLO + BEGIN + END + BYE!r})\nif os.fork() == 0: time.sleep(60)\nos._exit(0)"
    assert emulate(tmp_path, body)[-1] == Bye(3)


def test_a_console_that_does_not_end_is_a_lost_machine(tmp_path):
    with pytest.raises(LostMachineError, match="its console said more than 64 MiB") as caught:
        emulate(tmp_path, "while True: console('the same again\\n' * 100_000)")
    assert caught.value.console[-2] == "the same again"


@pytest.mark.slow
def test_a_log_that_does_not_end_is_a_lost_machine(tmp_path):
    flood = "while True: os.write(2, b'the same again\\n' * 100_000)"
    with pytest.raises(
        LostMachineError, match="killed by SIGXFSZ, having written more than 128 MiB into a file"
    ) as lost:
        emulate(tmp_path, f"signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n{flood}")
    assert "the same again" in lost.value.hint
    assert (tmp_path / LOG).stat().st_size <= 1 << 27
    with pytest.raises(LostMachineError, match=r"ended \(status 1\)"):  # one that goes on without it, as Python does
        emulate(tmp_path, flood)
    assert (tmp_path / LOG).stat().st_size <= 1 << 27


@pytest.mark.slow
def test_a_console_does_not_grow_while_nobody_looks_at_it(tmp_path):
    body = f"""
        say({HELLO!r})
        while True:
            try: console("x" * 999_999)
            except OSError: time.sleep(0.1)
    """
    with pytest.raises(LostMachineError, match="its console said more than 64 MiB"):
        emulate(tmp_path, body, on_event=lambda event: time.sleep(3))
    assert (tmp_path / "console").stat().st_size <= 1 << 27


@pytest.mark.slow
def test_the_time_of_a_job_is_over_while_a_flood_of_events_is_read(tmp_path):
    output = frame(encode(Output(0, "x")))
    began = time.monotonic()
    with pytest.raises(HangError, match="not done after 1 s"):
        emulate(
            tmp_path,
            f"say({HELLO + BEGIN!r})\nwhile True: say({output!r} * 1000)",
            timeout_s=1.0,
            on_event=lambda event: time.sleep(0.01),  # a listener that is slower than what it hears
        )
    assert time.monotonic() - began < 3


def test_what_was_said_before_the_agent_ended_is_heard_though_its_end_is_seen_first(tmp_path):
    """As when whoever takes an event has long to do with it, while the host goes on to its end."""
    heard = []

    def slow(event):
        heard.append(event)
        if isinstance(event, Begin):
            time.sleep(0.5)

    say = f"say({HELLO + BEGIN!r}); time.sleep(0.1); say({END + BYE!r})"
    emulate(tmp_path, f"{say}; console({AGENT_ENDED!r} + chr(10)); time.sleep(9)", on_event=slow)
    assert isinstance(heard[-1], Bye)
