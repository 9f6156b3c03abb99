"""Every way for a command to end, as message and exit code."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from kvmharness.cli.errors import answer, for_bisect
from kvmharness.errors import (
    ExitCode,
    GuestError,
    HostRequirementError,
    KvmHarnessError,
    LostMachineError,
    UsageError,
)


def raiser(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no such thing"), 2),
        (HostRequirementError("no such thing"), 4),
        (GuestError("no such thing"), 1),
        (LostMachineError("no such thing"), 5),
        (KvmHarnessError("no such thing"), 5),
    ],
)
def test_own_errors(error, code, capsys):
    assert answer(raiser(error)) == code
    assert capsys.readouterr() == ("", "kvmharness: no such thing\n")


def test_hint_and_console_follow_the_message(capsys):
    error = LostMachineError("the machine is lost", "boot it again", ("[1.0] BUG", "[1.1] end"))
    assert answer(raiser(error)) == ExitCode.LOST
    assert capsys.readouterr().err.splitlines() == [
        "kvmharness: the machine is lost",
        "the machine's last lines:",
        "  | [1.0] BUG",
        "  | [1.1] end",
        "hint: boot it again",
    ]


def test_ctrl_c_is_one_line(capsys):
    assert answer(raiser(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "kvmharness: interrupted\n")


def test_a_bug_is_no_verdict(capsys):
    assert answer(raiser(ZeroDivisionError("x"))) == ExitCode.LOST
    err = capsys.readouterr().err
    assert "ZeroDivisionError: x" in err
    assert "this is a bug in kvmharness" in err


@pytest.mark.parametrize(("error", "says"), [(MemoryError(), "memory"), (OSError(errno.EAGAIN, "no"), "ulimit -u")])
def test_a_limit_of_this_machine_is_no_bug(error, says, capsys):
    assert answer(raiser(error)) == ExitCode.LOST
    told = capsys.readouterr().err
    assert says in told
    assert "bug" not in told


def run(script, **options):
    command = [sys.executable, "-c", f"import sys\nfrom kvmharness.cli.errors import answer\n{script}"]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=60, **options)


def test_other_system_errors_name_file_and_errno():
    done = run("sys.exit(answer(lambda: open('/nowhere/x')))")
    assert done.returncode == ExitCode.LOST
    assert done.stderr == "kvmharness: /nowhere/x: No such file or directory (ENOENT)\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk():
    with open("/dev/full", "w") as full:
        done = run("sys.exit(answer(lambda: print('x' * 9) or 0))", stdout=full)
    assert done.returncode == ExitCode.LOST
    first, hint = done.stderr.splitlines()
    assert first == f"kvmharness: {os.strerror(errno.ENOSPC)} (ENOSPC)"
    assert hint.startswith("hint: Free space")


def test_a_closed_pipe_is_silent():
    reader, writer = os.pipe()
    os.close(reader)
    done = run("sys.exit(answer(lambda: print('x' * 9) or 0))", stdout=writer)
    os.close(writer)
    assert done.returncode == 128 + signal.SIGPIPE
    assert done.stderr == ""


def test_sigterm_unwinds_the_stack():
    script = """
import os, signal
def command():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    finally:
        print("taken down", file=sys.stderr)
sys.exit(answer(command))"""
    done = run(script)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr == "taken down\n"


def test_a_closed_terminal_is_like_sigterm_unless_nobody_cares():
    script = """
import os, signal
signal.signal(signal.SIGHUP, signal.{handler})
def command():
    os.kill(os.getpid(), signal.SIGHUP)
    return 7
sys.exit(answer(command))"""
    assert run(script.format(handler="SIG_DFL")).returncode == 128 + signal.SIGHUP
    assert run(script.format(handler="SIG_IGN")).returncode == 7


def test_the_handler_of_sigterm_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    assert answer(lambda: 0) == 0
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("code", "told"), [(0, 0), (1, 1), (2, 125), (3, 125), (4, 125), (5, 125), (130, 130), (141, 141)]
)
def test_bisect(code, told):
    assert for_bisect(code) == told


@pytest.mark.parametrize("place", ["/dev/full", "&-", "&0"])
def test_an_output_that_takes_nothing_is_told_before_anything_is_done(place, tmp_path):
    shell = f"{sys.executable} -m kvmharness run d:1 --json {tmp_path}/x </dev/null >{place}"
    done = subprocess.run(["/bin/sh", "-c", shell], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    first, hint = done.stderr.splitlines()
    assert "standard output" in first
    assert hint == "hint: Send it to /dev/null if nobody is to read it."
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("verb", "code"), [("run", 5), ("bisect", 125)])
def test_too_few_open_files_for_the_tool_itself(verb, code):
    script = f"""
import resource, sys
from kvmharness.__main__ import main
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
sys.exit(main([{verb!r}]))"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
    assert "Too many open files" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("place", ["/dev/full", "closed"])
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["bisect", "z:1", "loads", "0"], 125),
        (["run", "--list"], {0, 2}),
        (["--help"], {0, 2}),
        (["compare", "/no/a", "/no/b", "--bisect"], 125),
    ],
)
def test_want_of_a_place_to_print_is_no_verdict(command, code, stream, place):
    """git takes 1 for a bad commit, and 120, the interpreter's own answer to a lost flush, too."""
    redirect = {"stdout": 1, "stderr": 2}[stream]
    shell = f"{sys.executable} -m kvmharness {' '.join(command)} {redirect}>" + ("&-" if place == "closed" else place)
    done = subprocess.run(["/bin/sh", "-c", shell], capture_output=True, check=False)
    assert done.returncode in (code if isinstance(code, set) else {code})
