"""Temporary folders that do not outlive their process: what a killed one left is removed at the next start.

Beside a folder lies its lock, which its process holds from before the folder is made until after it is gone. So a lock
that is free means that nobody uses the folder, and a folder without one is somebody else's.
"""

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kvmharness.system import locks
from kvmharness.system.programs import disk_errors

_PREFIX = "kvmharness-"
_LOCK_SUFFIX = ".lock"


@contextmanager
def temporary_folder(kind: str) -> Iterator[Path]:
    """A new folder where temporary files go, gone afterwards whatever happens.

    Args:
        kind: a word of its name.

    Raises:
        DiskFullError: there is no room for it.
    """
    remove_leftovers()
    path = Path(tempfile.gettempdir()) / f"{_PREFIX}{kind}-{secrets.token_hex(6)}"
    with disk_errors(path), locks.locked(_lock(path), lambda seconds: None):
        try:
            path.mkdir(mode=0o700)
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def remove_leftovers() -> None:
    """Removes the temporary folders of our own processes that are dead."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*{_LOCK_SUFFIX}"):
        with suppress(OSError):  # somebody else removes it at the same time
            if _is_ours(lock):
                with locks.if_free(lock) as dead:
                    if dead:
                        shutil.rmtree(lock.with_suffix(""), ignore_errors=True)


def _lock(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK_SUFFIX)


def _is_ours(path: Path) -> bool:
    """Whether it is a file that this user made: others may make files there, too."""
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
