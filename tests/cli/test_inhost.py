"""lab exec and lab shell: what is taken along, what is refused, and both in real emulated hosts."""

import os
import re
import shutil
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from kvmharness.cli import inhost
from kvmharness.cli.main import main
from kvmharness.cli.output import Output
from tests.terminals import Seat

SCRIPT = """#!/bin/sh
cat
pwd
[ -x ./ls ] && ./ls -l data.txt
exec /bin/python3 -S -P -c 'from kvmharness.kvm.system import Kvm; Kvm.open().close(); print("opened")'
"""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["exec", "--put", "/no/such", "/bin/ls"], "/no/such: No such file"),
        (["shell", "--put", "/no/such"], "/no/such: No such file"),
        (["shell", "--put", "/bin"], "/bin: "),
        (["shell", "--put", "{0}/a/same", "--put", "{0}/b/same"], "both would be /root/same"),
        (["exec", "{0}/a/same"], "neither a program for Linux (ELF) nor a script"),
        (["shell", "--variant", "p1"], "--variant without --series"),
        (["shell", "--series", "fast-cr3-switch", "--variant", "p9"], "no variant 'p9'"),
        (["shell", "--gdb", "--host", "vmx"], "--gdb: Bochs is built without its stub for gdb"),
        (["boot", "--gdb", "--host", "vmx"], "Take --host svm"),
        (["exec", "--gdb", "/bin/ls"], "run CELL --host vmx --trace"),
    ],
)
def test_what_is_refused_before_anything_is_built(arguments, says, tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same").write_text("text")
    assert main(["lab", *(word.format(tmp_path) for word in arguments)]) == 2
    assert says in capsys.readouterr().err


def test_programs_bring_the_libraries_that_they_are_linked_with(tmp_path):
    (tmp_path / "data.txt").write_text("text")
    program = Path(os.path.realpath(sys.executable))
    files = inhost._with_libraries({"bin/python": program, "root/data.txt": tmp_path / "data.txt"})
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    names = {Path(word).name for word in re.findall(r"/\S+", linked)}
    assert names <= {Path(place).name for place in files}
    assert files["root/data.txt"] == tmp_path / "data.txt"
    assert not [place for place in files if place.startswith("/")]


def test_the_standard_input_is_read_to_its_end_and_not_without_one(monkeypatch):
    with open("/dev/null") as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert inhost._standard_input(Output()) == b""
    ours, theirs = os.openpty()
    with os.fdopen(ours), os.fdopen(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        assert inhost._standard_input(Output()) == b""


@pytest.mark.slow
@pytest.mark.needs("emulated_svm")
def test_a_script_reads_what_is_piped_in_and_finds_what_was_put_beside_it(tmp_path, capfd):
    (tmp_path / "data.txt").write_text("12345")
    (tmp_path / "script").write_text(SCRIPT)
    put = ["--put", shutil.which("ls"), "--put", str(tmp_path / "data.txt")]
    command = [sys.executable, "-m", "kvmharness", "lab", "exec", "--host", "svm", *put, str(tmp_path / "script")]
    ran = subprocess.run(command, input="from outside\n", capture_output=True, text=True, timeout=600, check=True)
    said = ran.stdout.splitlines()
    assert (said[0], said[1], said[3]) == ("from outside", "/root", "opened")
    assert said[2].split()[4] == "5"  # bytes, as a program with libraries of its own sees them
    assert re.search(r"script took \d+\.\d s, the host \d+\.\d s in all", ran.stderr)


@pytest.mark.slow
@pytest.mark.needs("emulated_svm")
@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed: apt-get install gdb")
def test_gdb_stops_in_kvm_with_lines_and_arguments(tmp_path):
    (tmp_path / "script").write_text(SCRIPT)
    command = [sys.executable, "-m", "kvmharness", "lab", "exec", "--gdb", "--host", "svm", str(tmp_path / "script")]
    said = ""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as ran:
        try:
            while not (found := re.search(r"gdb -x (\S+)", said)):
                line = ran.stdout.readline()
                assert line, said
                said += line
            told = [f"--eval-command={words}" for words in ("break kvm_dev_ioctl", "continue", "detach")]
            gdb = ["gdb", "-batch", "-nx", "-x", found[1], *told]
            stopped = subprocess.run(gdb, capture_output=True, text=True, timeout=300, check=True).stdout
            # KVM_GET_API_VERSION is _IO(0xAE, 0x00)
            assert re.search(rf"kvm_dev_ioctl \(.*ioctl={0xAE00}, arg=0\) at .*virt/kvm/kvm_main\.c:\d+", stopped)
            assert "opened" in ran.stdout.read()
        finally:
            ran.kill()


@pytest.mark.slow
@pytest.mark.parametrize("host", ["vmx", "svm"])
@pytest.mark.needs("emulated_vmx", "emulated_svm")
def test_a_shell_takes_keys_and_ctrl_c_and_ends_with_its_own_status(host):
    with Seat([sys.executable, "-m", "kvmharness", "lab", "shell", "--host", host]) as seat:
        seat.until(b"host# ", 600)
        seat.type(b"cat /sys/module/kvm_*/parameters/nested; stty size; ls /sys/kernel/debug/kvm | wc -l\n")
        said = seat.until(b"host# ").split()
        assert said[-4] in ("Y", "1")
        assert said[-3:-1] == ["24", "80"]
        assert int(said[-1]) > 10  # KVM's statistics
        seat.type(b"sleep 100000\n")
        seat.until(b"sleep 100000")
        time.sleep(2)
        seat.type(b"\x03")
        seat.until(b"host# ")
        seat.type(b"kvmharness run --list d:5\n")
        assert "d:5" in seat.until(b"host# ", 400).splitlines()
        seat.type(b"exit 7\n")
        assert seat.process.wait(60) == 7
        assert termios.tcgetattr(seat.theirs) == seat.before
