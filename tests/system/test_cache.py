"""The cache holds whole entries or none, and one process at a time makes one."""

import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from kvmharness.errors import ExitCode
from kvmharness.system import cache
from kvmharness.system.programs import DiskFullError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "kvmharness"


def is_empty_soon(folder):
    """Leftovers are deleted by another process."""
    deadline = time.monotonic() + 20
    while list(folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return list(folder.iterdir()) == []


def write(text):
    return lambda folder: (folder / "content").write_text(text)


def test_an_entry_is_made_once(folder):
    place = cache.folder_entry("things", "key", write("first"))
    assert place == folder / "things/key"
    assert cache.folder_entry("things", "key", write("second")) == place
    assert (place / "content").read_text() == "first"


def test_the_home_folder_is_the_default(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.root() == tmp_path / "home/.cache/kvmharness"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("broken")])
def test_an_interrupted_entry_leaves_nothing(folder, error):
    def make(place):
        write("half")(place)
        raise error

    with pytest.raises(type(error)):
        cache.folder_entry("things", "key", make)
    assert is_empty_soon(folder / "things")
    assert (cache.folder_entry("things", "key", write("whole")) / "content").read_text() == "whole"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_as_such(folder, number):
    from kvmharness.system.programs import disk_errors

    def make(place):
        with disk_errors(place):
            raise OSError(number, os.strerror(number))

    with pytest.raises(DiskFullError, match="no space left on the disk that holds") as caught:
        cache.file_entry("things", "key", make)
    assert "XDG_CACHE_HOME" in caught.value.hint
    assert caught.value.exit_code == ExitCode.LOST
    assert is_empty_soon(folder / "things")


def test_a_full_disk_is_recognized_on_a_real_full_device():
    from kvmharness.system.programs import disk_errors

    with pytest.raises(DiskFullError), disk_errors("/dev/full"), open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")


def test_a_dead_processes_lock_is_taken_over(folder):
    child = subprocess.run(
        [sys.executable, "-S", "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    (folder / "things").mkdir(parents=True)
    (folder / "things/.lock-key").write_bytes(child.stdout)
    assert cache.folder_entry("things", "key", write("x")).is_dir()


@pytest.mark.slow
def test_a_second_caller_waits_for_the_first(folder):
    made, said = [], []

    def make(place):
        made.append(place)
        time.sleep(0.5)

    first = threading.Thread(target=cache.folder_entry, args=("things", "key", make))
    first.start()
    while not made:
        time.sleep(0.01)
    cache.folder_entry("things", "key", make, said.append)
    first.join()
    assert len(made) == 1
    assert "waiting for process" in said[0]


def test_digests_tell_contents_apart():
    assert cache.digest("a", "b") != cache.digest("ab")
    assert cache.digest(b"a") != cache.digest("a")
    assert cache.digest({"x": 1, "y": 2}) == cache.digest({"y": 2, "x": 1})


def test_the_newest_entries_are_kept(folder):
    for number in range(4):
        place = cache.folder_entry("things", str(number), write("x"))
        os.utime(place, (number, number))
    cache.folder_entry("things", "0", write("x"))  # used again, so the newest
    half_made = folder / "things/.making-old"
    half_made.mkdir()
    os.utime(half_made, (0, 0))
    cache.keep_newest("things", 2)
    assert sorted(path.name for path in (folder / "things").iterdir()) == ["0", "3"]
