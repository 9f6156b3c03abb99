"""The terminal that is joined with an emulated host's: keys and words pass, and it is given back as it was."""

import os
import select
import subprocess
import sys
import termios

import pytest

# What stands at the other end: it greets, says back what it is told in hexadecimal, and ends at "q" or Ctrl-].
OTHER_END = """
import os, sys, threading
from kvmharness.cli.terminal import joined
left = threading.Event()
with joined(left.set) as terminal:
    fd = os.open(terminal.path, os.O_RDWR | os.O_NOCTTY)
    os.write(fd, f"ready {terminal.rows}x{terminal.columns} ".encode())
    said = b""
    while b"q" not in said and b"\\x04" not in said and not left.wait(0.05 if b"\\x1d" in said else 0):
        said += os.read(fd, 64)
        os.write(fd, said.hex().encode() + b" ")
    os.write(fd, b"bye")
    if "raise" in sys.argv:
        raise KeyboardInterrupt
print(" left" if left.is_set() else " done", flush=True)
"""


class Seat:
    """Somebody at a terminal, before a program."""

    def __init__(self, *arguments):
        self.ours, theirs = os.openpty()
        termios.tcsetwinsize(theirs, (24, 80))
        self.before = termios.tcgetattr(theirs)
        self.theirs, self.heard = theirs, b""
        command = [sys.executable, "-c", OTHER_END, *arguments]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)

    def until(self, what):
        while what not in self.heard:
            assert select.select([self.ours], [], [], 30)[0], f"{what} has not come, but {self.heard}"
            self.heard += os.read(self.ours, 4096)

    def type(self, keys):
        os.write(self.ours, keys)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


def test_each_key_goes_to_the_other_end_ctrl_c_too():
    with Seat() as seat:
        seat.until(b"ready 24x80 ")
        seat.type(b"a\x03\x1a\r")
        seat.until(b"61031a0d ")
        assert not termios.tcgetattr(seat.theirs)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
        seat.type(b"q")
        seat.until(b" done")
        assert seat.process.wait(30) == 0
        assert termios.tcgetattr(seat.theirs) == seat.before


def test_the_terminal_is_given_back_after_an_error_too():
    with Seat("raise") as seat:
        seat.until(b"ready")
        seat.type(b"q")
        seat.until(b"KeyboardInterrupt")
        seat.process.wait(30)
        assert termios.tcgetattr(seat.theirs) == seat.before


def test_ctrl_bracket_leaves_an_end_that_does_not_answer():
    with Seat() as seat:
        seat.until(b"ready")
        seat.type(b"\x1d")
        seat.until(b" left")
        assert seat.process.wait(30) == 0


@pytest.mark.parametrize(("given", "heard"), [(b"abc", "616263"), (b"", "")])
def test_the_end_of_what_is_piped_in_is_ctrl_d(given, heard):
    command = [sys.executable, "-c", OTHER_END]
    said = subprocess.run(command, input=given, capture_output=True, timeout=60, check=True).stdout.decode()
    assert said.startswith("ready 0x0 ")
    assert f"{heard}04 bye" in said
