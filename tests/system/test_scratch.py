"""Temporary folders are gone with their process, at the latest when the next one starts."""

import os
import signal
import subprocess
import sys
import tempfile
import threading

import pytest

from kvmharness.cli.main import main
from kvmharness.system.scratch import remove_leftovers, temporary_folder


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


HOLDS = """
import time
from kvmharness.system.scratch import temporary_folder
with temporary_folder("bochs") as folder:
    (folder / "memory").write_bytes(bytes(1000))
    (folder / "state").mkdir()
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder():
    """Another process that has such a folder."""
    with subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, text=True) as process:
        process.folder = process.stdout.readline().strip()
        yield process
        process.kill()


def test_it_is_there_and_then_it_is_not(folder):
    with temporary_folder("bochs") as path:
        assert path.parent == folder
        assert path.name.startswith("kvmharness-bochs-")
        assert path.stat().st_mode & 0o777 == 0o700
        (path / "file").touch()
    assert list(folder.iterdir()) == []


def test_an_exception_takes_it_along(folder):
    with pytest.raises(KeyboardInterrupt), temporary_folder("bochs"):
        raise KeyboardInterrupt
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("start", [remove_leftovers, lambda: main(["asm", "/nowhere"])], ids=["leftovers", "a command"])
def test_the_next_start_removes_that_of_a_killed_process(holder, folder, start, capsys):
    assert os.path.isdir(holder.folder)
    start()
    assert os.path.isdir(holder.folder), "its process lives"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    start()
    assert list(folder.iterdir()) == []


def test_so_does_the_next_folder(holder, folder):
    holder.kill()
    holder.wait()
    with temporary_folder("qemu") as path:
        assert {each.name.removesuffix(".lock") for each in folder.iterdir()} == {path.name}


def test_threads_of_one_process_leave_each_others_alone():
    with temporary_folder("bochs") as path:
        thread = threading.Thread(target=remove_leftovers)
        thread.start()
        thread.join()
        remove_leftovers()
        assert path.is_dir()
        # The lock is still held: another process would see that.
        code = "from kvmharness.system.scratch import remove_leftovers; remove_leftovers()"
        subprocess.run([sys.executable, "-c", code], check=True)
        assert path.is_dir()


def test_what_others_put_there_is_left(folder, monkeypatch):
    (folder / "kvmharness-bochs-of-an-older-version").mkdir()
    (folder / "target").mkdir()
    (folder / "kvmharness-x").mkdir()
    (folder / "kvmharness-x.lock").symlink_to(folder / "target")
    remove_leftovers()
    assert len(list(folder.iterdir())) == 4
    (folder / "kvmharness-y").mkdir()
    (folder / "kvmharness-y.lock").touch()
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    remove_leftovers()
    assert len(list(folder.iterdir())) == 6


def test_a_folder_that_was_a_link_is_not_followed(folder):
    (folder / "precious").mkdir()
    (folder / "precious/file").touch()
    (folder / "kvmharness-z").symlink_to(folder / "precious")
    (folder / "kvmharness-z.lock").touch()
    remove_leftovers()
    assert (folder / "precious/file").exists()
