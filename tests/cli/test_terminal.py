"""The terminal that is joined with an emulated host's: keys and words pass, and it is given back as it was."""

import subprocess
import sys
import termios

import pytest

from tests.terminals import Seat

# What stands at the other end: it greets, says back what it is told in hexadecimal, and ends at "q" or Ctrl-].
OTHER_END = """
import os, sys, threading
from kvmharness.cli.terminal import joined
left = threading.Event()
with joined(left.set) as terminal:
    fd = os.open(terminal.path, os.O_RDWR | os.O_NOCTTY)
    os.write(fd, f"ready {terminal.rows}x{terminal.columns} ".encode())
    said = b""
    ends = 2 if "deaf" in sys.argv else 1
    while b"q" not in said and said.count(b"\\x04") < ends and not left.wait(0.05 if b"\\x1d" in said else 0):
        said += os.read(fd, 64)
        os.write(fd, said.hex().encode() + b" ")
    os.write(fd, b"bye")
    if "raise" in sys.argv:
        raise KeyboardInterrupt
print(" left" if left.is_set() else " done", flush=True)
"""


COMMAND = [sys.executable, "-c", OTHER_END]


def test_each_key_goes_to_the_other_end_ctrl_c_too():
    with Seat(COMMAND) as seat:
        seat.until(b"ready 24x80 ")
        seat.type(b"a\x03\x1a\r")
        seat.until(b"61031a0d ")
        assert not termios.tcgetattr(seat.theirs)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
        seat.type(b"q")
        seat.until(b" done")
        assert seat.process.wait(30) == 0
        assert termios.tcgetattr(seat.theirs) == seat.before


def test_the_terminal_is_given_back_after_an_error_too():
    with Seat([*COMMAND, "raise"]) as seat:
        seat.until(b"ready")
        seat.type(b"q")
        seat.until(b"KeyboardInterrupt")
        seat.process.wait(30)
        assert termios.tcgetattr(seat.theirs) == seat.before


def test_ctrl_bracket_leaves_an_end_that_does_not_answer():
    with Seat(COMMAND) as seat:
        seat.until(b"ready")
        seat.type(b"\x1d")
        seat.until(b" left")
        assert seat.process.wait(30) == 0


@pytest.mark.parametrize(("given", "heard"), [(b"abc", "616263"), (b"", "")])
def test_the_end_of_what_is_piped_in_is_ctrl_d(given, heard):
    said = subprocess.run(COMMAND, input=given, capture_output=True, timeout=60, check=True).stdout.decode()
    assert said.startswith("ready 0x0 ")
    assert f"{heard}04 bye" in said


def test_a_file_is_read_as_a_pipe_is(tmp_path):
    (tmp_path / "keys").write_bytes(b"abc")
    with (tmp_path / "keys").open("rb") as keys:
        said = subprocess.run(COMMAND, stdin=keys, capture_output=True, timeout=60, check=True).stdout.decode()
    assert "61626304 bye" in said


def test_an_end_that_was_not_heard_is_told_again():
    said = subprocess.run([*COMMAND, "deaf"], input=b"a", capture_output=True, timeout=60, check=True).stdout.decode()
    assert "610404 bye" in said
