"""Saved hosts as files: copied without holes and zeros, and never taken when they have changed."""

import os
import time

import pytest

from kvmharness.lab.machines.snapshot import state
from kvmharness.lab.machines.snapshot.state import DamagedError, NoSnapshotError, copy_sparse, keep, put_job, take
from kvmharness.system.programs import DiskFullError

MEGABYTE = 1 << 20


@pytest.fixture
def saved(tmp_path):
    """A saved host: settings, and a memory of 64 MB with something at its beginning, in its middle and at its end."""
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "config").write_text("boot: cdrom\n")
    with (folder / "memory").open("wb") as file:
        for at, text in ((0, b"start"), (20 * MEGABYTE + 5, b"middle"), (64 * MEGABYTE - 3, b"end")):
            file.seek(at)
            file.write(text)
        file.seek(40 * MEGABYTE)
        file.write(bytes(MEGABYTE))  # zeros that are no hole
    return folder


@pytest.fixture
def kept(saved, tmp_path):
    keep(saved, tmp_path / "kept")
    return tmp_path / "kept"


def on_disk(path):
    return path.stat().st_blocks * 512


def test_a_copy_is_the_same_and_holds_no_zeros(saved, tmp_path):
    copy_sparse(saved / "memory", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (saved / "memory").read_bytes()
    assert on_disk(saved / "memory") > MEGABYTE
    assert on_disk(tmp_path / "copy") <= 4 * 65536


def test_the_hash_is_of_the_content_not_of_the_holes(saved, tmp_path):
    first = copy_sparse(saved / "memory", tmp_path / "copy")
    assert copy_sparse(tmp_path / "copy", tmp_path / "again") == first


@pytest.mark.parametrize(
    "change",
    [
        lambda file: os.pwrite(file, b"S", 0),
        lambda file: os.pwrite(file, b"\1", 30 * MEGABYTE),
        lambda file: os.pwrite(file, bytes(8), 20 * MEGABYTE),
        lambda file: os.ftruncate(file, 64 * MEGABYTE + 1),
        lambda file: os.ftruncate(file, 63 * MEGABYTE),
    ],
    ids=["a byte", "a byte in a hole", "zeros where zeros are", "longer", "shorter"],
)
def test_every_change_shows_in_the_hash(saved, tmp_path, change):
    first = copy_sparse(saved / "memory", tmp_path / "copy")
    with (saved / "memory").open("r+b") as file:
        before = (saved / "memory").read_bytes()
        change(file.fileno())
    changed = (saved / "memory").read_bytes() != before
    assert (copy_sparse(saved / "memory", tmp_path / "copy") != first) is changed


def test_what_was_kept_is_taken(kept, saved, tmp_path):
    take(kept, tmp_path / "taken")
    names = {path.name for path in (tmp_path / "taken").iterdir()}
    assert names == {"config", "memory"}
    assert (tmp_path / "taken/memory").read_bytes() == (saved / "memory").read_bytes()


def test_what_was_changed_is_not(kept, tmp_path):
    (kept / "config").write_text("boot: floppy\n")
    with pytest.raises(DamagedError, match="config changed since it was kept"):
        take(kept, tmp_path / "taken")


@pytest.mark.parametrize("name", ["config", "memory", "hashes.json"])
def test_nor_what_is_incomplete(kept, tmp_path, name):
    (kept / name).unlink()
    with pytest.raises(DamagedError, match=name):
        take(kept, tmp_path / "taken")


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b"1"])
def test_nor_what_has_no_hashes_any_more(kept, tmp_path, text):
    (kept / "hashes.json").write_bytes(text)
    with pytest.raises(DamagedError, match="is damaged"):
        take(kept, tmp_path / "taken")


def test_a_job_stands_where_the_agent_looks_for_it(tmp_path):
    (tmp_path / "memory").touch()
    put_job(tmp_path / "memory", b"an archive")
    data = (tmp_path / "memory").read_bytes()
    # "memmap=48M$0x8000000": Documentation/admin-guide/kernel-parameters.txt, marks memory as reserved.
    assert state.reserved_memory() == "memmap=48M$0x8000000"
    assert data[0x8000000:] == b"KVMHJOB\n" + (10).to_bytes(8, "little") + b"an archive"


def test_a_job_that_is_too_large_is_refused(tmp_path):
    (tmp_path / "memory").touch()
    with pytest.raises(NoSnapshotError, match="47 MB is too large"):
        put_job(tmp_path / "memory", bytes((48 << 20) - 15))
    assert (tmp_path / "memory").read_bytes() == b""


def test_a_full_disk_is_told_as_such(kept, tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(state, "copy_sparse", full)
    with pytest.raises(DiskFullError):
        take(kept, tmp_path / "taken")


def test_holes_cost_no_time(tmp_path):
    with (tmp_path / "memory").open("wb") as file:
        file.truncate(1 << 36)
    before = time.process_time()
    copy_sparse(tmp_path / "memory", tmp_path / "copy")
    assert time.process_time() - before < 1
