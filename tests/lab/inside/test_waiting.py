"""An agent that waits: an archive unpacked as the kernel would, and the order in which things happen."""

import json
import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kvmharness.lab.image.cpio import Archive
from kvmharness.lab.inside import waiting
from kvmharness.lab.machines.snapshot.state import JOB_ADDRESS, JOB_BYTES, put_job, waiting_agent

LARGE = bytes(range(256)) * 5000


@pytest.fixture
def archive():
    made = Archive()
    made.add_file("job/job.json", b"[]")
    made.add_file("job/modules/stock/kvm.ko", LARGE)
    made.add_file("bin/test", b"#!/bin/sh\n", executable=True)
    made.add_file("empty", b"")
    made.add_folder("a/folder")
    made.add_symlink("bin/link", "test")
    return made


def listing(root):
    found = {}
    for path in sorted(root.rglob("*")):
        content = os.readlink(path) if path.is_symlink() else path.is_dir() or path.read_bytes()
        found[str(path.relative_to(root))] = (oct(path.lstat().st_mode), content)
    return found


def test_an_archive_is_unpacked_as_by_cpio(archive, tmp_path):
    data = archive.to_bytes()
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    waiting.unpack(memoryview(data), str(tmp_path / "ours"))
    subprocess.run(
        ["busybox", "cpio", "-i", "-d"], input=data, cwd=tmp_path / "theirs", check=True, capture_output=True
    )
    assert len(listing(tmp_path / "ours")) == 11
    assert listing(tmp_path / "ours") == listing(tmp_path / "theirs")


def test_what_was_there_is_replaced(archive, tmp_path):
    (tmp_path / "job").mkdir()
    (tmp_path / "job/job.json").write_bytes(b"much longer than what comes")
    waiting.unpack(memoryview(archive.to_bytes()), str(tmp_path))
    assert (tmp_path / "job/job.json").read_bytes() == b"[]"


def test_a_program_that_is_running_and_a_link_are_replaced_too(archive, tmp_path):
    """As /bin/busybox is, which everything in the host began with."""
    (tmp_path / "bin").mkdir()
    shutil.copy("/bin/sleep", tmp_path / "bin/test")
    os.symlink("elsewhere", tmp_path / "bin/link")
    with subprocess.Popen([tmp_path / "bin/test", "60"]) as running:
        try:
            waiting.unpack(memoryview(archive.to_bytes()), str(tmp_path))
        finally:
            running.kill()
    assert (tmp_path / "bin/test").read_bytes() == b"#!/bin/sh\n"
    assert os.readlink(tmp_path / "bin/link") == "test"


class Saved(Exception):
    """The emulator has been asked to save the host."""


class Host:
    """A host whose memory is a file, and whose port hands it to *saved*."""

    def __init__(self, tmp_path, monkeypatch, saved):
        self.memory, self.saved, self.unpacked = tmp_path / "memory", saved, []
        with self.memory.open("wb") as file:
            file.truncate(JOB_ADDRESS + JOB_BYTES)
        told = tmp_path / "waiting.json"
        told.write_bytes(waiting_agent(0x505, 1, ["antigravity_of_tests"]))
        (tmp_path / "antigravity_of_tests.py").write_text("")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr(waiting, "WAITING_PATH", str(told))
        monkeypatch.setattr(waiting, "MEMORY_PATH", str(self.memory))
        monkeypatch.setattr(waiting, "_SETTLE_S", 0.0)
        monkeypatch.setattr(waiting, "unpack", lambda archive: self.unpacked.append(bytes(archive)))

    def out(self, port, byte):
        assert "antigravity_of_tests" in sys.modules, "saved before it was imported"
        self.saved(self, port, byte)


def test_the_job_is_what_stands_in_memory_after_the_host_was_saved(archive, tmp_path, monkeypatch):
    data = archive.to_bytes()

    def saved(host, port, byte):
        assert (port, byte) == (0x505, 1)
        put_job(host.memory, data)

    host = Host(tmp_path, monkeypatch, saved)
    waiting.wait(host)
    assert host.unpacked == [data]


def test_a_restored_host_without_a_job_ends(tmp_path, monkeypatch):
    host = Host(tmp_path, monkeypatch, lambda *given: None)
    with pytest.raises(OSError, match="holds no job"):
        waiting.wait(host)
    assert host.unpacked == []


def test_what_fails_or_warns_when_it_is_imported_is_left_to_the_job(tmp_path, monkeypatch):
    for name, text in {
        "lacks_of_tests": "import no_such_module_of_tests",
        "broken_of_tests": "1 / 0",
        "warning_of_tests": "import warnings\nwarnings.warn('old', DeprecationWarning)",
        "fine_of_tests": "",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    names = ["lacks_of_tests", "broken_of_tests", "warning_of_tests", "no_such_module_of_tests", "fine_of_tests"]
    monkeypatch.syspath_prepend(str(tmp_path))
    waiting.import_what_can_be(names)
    assert [name for name in names if name in sys.modules] == ["fine_of_tests"]
    with pytest.warns(DeprecationWarning, match="old"):
        __import__("warning_of_tests")


def test_what_it_is_told_is_json_that_names_the_reserved_memory():
    told = json.loads(waiting_agent(0xE9, 0xA5, ["a.b"], ["c"]))
    imported = {"modules": ["a.b"], "imports": ["c"]}
    assert told == {"address": 0x8000000, "size": 48 << 20, "port": 0xE9, "byte": 0xA5, **imported}
    assert told["address"] % mmap.PAGESIZE == 0
    assert Path(waiting.MEMORY_PATH).name == "mem"
