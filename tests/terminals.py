"""Somebody who sits at a terminal, before a program: types, and reads what it says."""

import os
import select
import subprocess
import termios
import time


class Seat:
    """A pseudoterminal of 24 rows and 80 columns with a program at it. A context manager: it ends the program.

    Args:
        command: the program and its arguments.

    Attributes:
        process: the program.
        theirs: the program's end, to be asked how it is set.
        before: how it was set when the program started.
    """

    def __init__(self, command):
        self._ours, self.theirs = os.openpty()
        termios.tcsetwinsize(self.theirs, (24, 80))
        self.before = termios.tcgetattr(self.theirs)
        self._heard = b""
        theirs = dict.fromkeys(("stdin", "stdout", "stderr"), self.theirs)
        self.process = subprocess.Popen(command, **theirs, start_new_session=True)

    def until(self, what, seconds=60):
        """All that the program says before *what*, since it was last asked."""
        end = time.monotonic() + seconds
        while what not in self._heard:
            ready = select.select([self._ours], [], [], max(0, end - time.monotonic()))[0]
            assert ready, f"{what} has not come, but {self._heard}"
            self._heard += os.read(self._ours, 4096)
        said, self._heard = self._heard.split(what, 1)
        return said.decode()

    def type(self, keys):
        """Presses keys."""
        os.write(self._ours, keys)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self.theirs)
