"""Saved hosts in the cache: made on first use, checked before one is ever trusted, pruned by number and age."""

import shutil
from collections.abc import Callable
from pathlib import Path

from kvmharness.errors import KvmHarnessError
from kvmharness.lab.machines.emulator import EmulatedMachine
from kvmharness.lab.machines.snapshot.state import STATE, NoSnapshotError, keep
from kvmharness.system import cache
from kvmharness.system.programs import Progress, disk_errors

KIND = "snapshots"
_UNTRUSTED = "untrusted"
_KEPT = 12
_UNUSED_S = 30 * 86400.0
_MB_MAX = 150  # on disk; they take 50 to 100

Differs = Callable[[Path], str]
"""Takes the folder of a saved host's files; says how a restored host differs from a booted one, or nothing."""


def kept(machine: EmulatedMachine, differs: Differs, progress: Progress) -> Path:
    """The folder of the machine's saved host, made and checked if there is none.

    Args:
        machine: to be saved.
        differs: asked once, when it was made. What it says is kept in the place of a host that differs.
        progress: takes a line about once a second.

    Raises:
        NoSnapshotError: it cannot be saved, or not this time, or is not to be trusted.
    """
    if why := machine.cannot_be_saved():
        raise NoSnapshotError(why)

    def make(scratch: Path) -> None:
        progress(f"saving a booted {machine.host.name}, once, to start from it from now on")
        work = scratch / "work"  # in here, so that it is found and removed even if we are killed
        work.mkdir()
        try:
            machine.save(work)
            _check_room(work)  # on a full disk Bochs saves less, and says nothing
            keep(work / STATE, scratch / STATE)
            why = _too_large(scratch / STATE)
        except KvmHarnessError as error:
            _check_room(work)
            if not isinstance(error, NoSnapshotError):
                raise
            why = str(error)  # about what is saved: the next try would give the same
        shutil.rmtree(work)
        if not why:
            progress(f"checking that a restored {machine.host.name} does what a booted one does")
            why = differs(scratch / STATE)
        if why:
            shutil.rmtree(scratch / STATE, ignore_errors=True)
            (scratch / _UNTRUSTED).write_text(why)

    try:
        place = cache.folder_entry(KIND, machine.saved_identity, make, progress)
        cache.keep_newest(KIND, _KEPT, _UNUSED_S)
    except NoSnapshotError:
        raise
    except KvmHarnessError as error:
        raise NoSnapshotError(str(error), error.hint) from error
    if (place / _UNTRUSTED).exists():
        raise NoSnapshotError((place / _UNTRUSTED).read_text())
    return place / STATE


def _check_room(folder: Path) -> None:
    """Raises: DiskFullError, there is no room left."""
    with disk_errors(folder):
        (folder / "room").write_bytes(bytes(1 << 20))


def _too_large(state: Path) -> str:
    """Why saved files are not kept; empty when they are not too large."""
    megabytes = sum(path.stat().st_blocks * 512 for path in state.iterdir()) >> 20
    return f"a saved one takes {megabytes} MB, more than {_MB_MAX}" if megabytes > _MB_MAX else ""


def forget(machine: EmulatedMachine) -> None:
    """Removes the machine's saved host, so that the next one who wants it makes it anew."""
    cache.remove(KIND, machine.saved_identity)
