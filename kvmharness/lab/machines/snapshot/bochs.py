"""What it takes to save and to restore a host in Bochs 2.7: a shared object, and the saved state put right.

Bochs' state is a folder of text files, and of memory as it is. It is written and read by Bochs itself; see bochs.c for
how that is brought about.
"""

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kvmharness.errors import LostMachineError
from kvmharness.lab.machines.process import SAVE_TIMEOUT_S, last_words, started, wait_for_end
from kvmharness.lab.machines.snapshot.state import NoSnapshotError
from kvmharness.system import cache, packages
from kvmharness.system.programs import run
from kvmharness.system.scratch import temporary_folder

VERSION = "2.7"
"""The one whose state is known here."""

MEMORY = "memory.ram"
PORT, SAVE_BYTE = 0xE9, 0xA5

_SAVES = {b"SIM", b"_ZN13bx_real_sim_c10save_stateEPKc"}
_SOURCE = Path(__file__).with_name("bochs.c")
# A restored session registers the timer of the USB controller before those of the serial ports, and a new one the other
# way round, while the state lists timers by the number that they were given. Number when restored -> when saved.
_TIMERS = {18: 21, 19: 18, 20: 19, 21: 20}
_TIMER = re.compile(r"^    (\d+) = \{\n(.*?)^    \}\n", re.MULTILINE | re.DOTALL)
_KEPT = 4
_CDROM = re.compile(r'path="boot\.iso", status=inserted')


def shared_object() -> Path | None:
    """bochs.c compiled, from the cache; None without a compiler."""
    if packages.missing(("gcc", "stdio.h")):
        return None
    source = _SOURCE.read_bytes()

    def compile_it(target: Path) -> None:
        argv = ["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", str(target), str(_SOURCE), "-ldl"]
        # Of a compiler that is killed its own temporary files stay, and nobody else knows whose they are.
        with temporary_folder("gcc") as own:
            run(argv, writes=target, env={"TMPDIR": str(own)})

    place = cache.file_entry("preload", cache.digest(source, os.uname().machine), compile_it)
    cache.keep_newest("preload", _KEPT)
    return place


def can_save(program: Path) -> bool:
    """Whether a Bochs exports what :func:`shared_object` calls."""
    return set(run(["nm", "--dynamic", "--defined-only", str(program)]).split()) >= _SAVES


def save(command: Sequence[str], folder: Path, state: Path, environment: dict[str, str]) -> None:
    """Boots until the guest has itself saved, and puts the state right.

    Args:
        command: boots a guest whose agent waits.
        folder: where it is started.
        state: where the state goes.
        environment: with :func:`shared_object` in it.

    Raises:
        LostMachineError: the guest has not been saved.
        NoSnapshotError: the state is not of the form that is known.
    """
    state.mkdir()
    with started(command, folder, {**environment, "KVMHARNESS_SAVE_TO": str(state)}) as process:
        try:
            wait_for_end(process, SAVE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise LostMachineError(f"the host was not ready after {SAVE_TIMEOUT_S:g} s", last_words(folder)) from None
    if process.returncode != 0 or not (state / MEMORY).exists():
        raise LostMachineError(f"Bochs ended (status {process.returncode}) without saving", last_words(folder))
    for name, mend in (("pc_system", renumbered), ("config", without_cd)):
        path = state / name
        path.write_text(mend(path.read_text()))


def renumbered(pc_system: str) -> str:
    """The state's file ``pc_system`` with its timers as a restored session numbers them.

    Raises:
        NoSnapshotError: there are not the timers that a machine of ours has.
    """
    timers = {int(found[1]): found[2] for found in _TIMER.finditer(pc_system)}
    if set(timers) != set(range(22)):
        raise NoSnapshotError(f"Bochs saved {len(timers)} timers where 22 are known")
    return _TIMER.sub(
        lambda found: f"    {found[1]} = {{\n{timers[_TIMERS.get(int(found[1]), int(found[1]))]}    }}\n", pc_system
    )


def without_cd(config: str) -> str:
    """The state's settings without the CD that was booted from: it is gone by then.

    Raises:
        NoSnapshotError: they name none.
    """
    changed, count = _CDROM.subn('path="none", status=ejected', config)
    if count != 1:
        raise NoSnapshotError("Bochs' saved settings do not name the boot CD")
    return changed
