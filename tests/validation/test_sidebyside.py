"""Tasks side by side: all are done, and an error or Ctrl-C ends the emulators of the others."""

import os
import signal
import sys
import threading
import time

import pytest

from kvmharness.errors import LostMachineError
from kvmharness.lab.job import Job
from kvmharness.lab.machines.supervisor import supervise
from kvmharness.validation.sidebyside import side_by_side


@pytest.mark.parametrize("at_once", [1, 2, 3, 8])
def test_all_tasks_are_done_as_many_at_once_as_allowed(at_once):
    done, going, most = [], [], []
    together = threading.Barrier(min(at_once, 6))  # nobody ends before so many are at work

    def task(number):
        going.append(number)
        together.wait(30)
        most.append(len(going))
        time.sleep(0.01)
        going.remove(number)
        done.append(number)

    side_by_side([lambda number=number: task(number) for number in range(6)], at_once)
    assert sorted(done) == list(range(6))
    assert max(most) == min(at_once, 6)


def emulator(folder):
    """A task: an emulator that says nothing for as long as it is left alone."""
    folder.mkdir()
    program = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    arguments = {"name": "the host", "console_path": folder / "console", "folder": folder}
    return lambda: supervise([sys.executable, "-c", program], Job((), timeout_s=60), print, **arguments)


def pids(*folders):
    while not all((folder / "pid").exists() and (folder / "pid").read_text() for folder in folders):
        time.sleep(0.01)
    return [int((folder / "pid").read_text()) for folder in folders]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_ends_all_of_them(tmp_path):
    folders = tmp_path / "a", tmp_path / "b"

    def press():
        pids(*folders)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        side_by_side([emulator(folder) for folder in folders], 2)
    assert not any(map(is_alive, pids(*folders)))


def test_an_error_ends_the_others_and_what_has_not_begun_does_not_begin(tmp_path):
    def fail():
        pids(tmp_path / "a")
        raise LostMachineError("it died")

    never = []
    with pytest.raises(LostMachineError, match="it died"):
        side_by_side([emulator(tmp_path / "a"), fail, lambda: never.append(1)], 2)
    assert not any(map(is_alive, pids(tmp_path / "a")))
    assert never == []
