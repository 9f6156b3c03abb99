"""Which entries of a cache living processes use, so that nobody removes one under another's hands.

A process that uses entries holds the lock of a file of its own beside them, with a line for each, until it ends. So a
file whose lock is free is a dead process's, and says nothing.
"""

import atexit
import os
import secrets
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import RLock

from kvmharness.system import locks

_PREFIX = ".used-"


class _Ours:
    """What this process uses: the entries of one cache, as a process has one."""

    def __init__(self) -> None:
        self.guard = RLock()
        self.file: Path | None = None
        self.entries: set[str] = set()
        self._number = -1
        self._held = ExitStack()
        self._process = os.getpid()

    def note(self, cache: Path, entry: str) -> None:
        with self.guard:
            if self.file is None or self.file.parent != cache:
                self.end()
                file = cache / f"{_PREFIX}{secrets.token_hex(6)}"
                self._number = self._held.enter_context(locks.locked(file, lambda seconds: None))
                self.file = file
            if entry not in self.entries:
                os.write(self._number, f"{entry}\n".encode())
                self.entries.add(entry)

    def end(self) -> None:
        if os.getpid() == self._process:  # the lock is not a child's
            self._held.close()
            self.file, self.entries = None, set()


_ours = _Ours()
atexit.register(_ours.end)


def note(cache: Path, entry: str) -> None:
    """Keeps an entry of a cache from being removed by others for as long as this process lives.

    Args:
        cache: its folder.
        entry: its name there, without line feeds.
    """
    _ours.note(cache, entry)


def by_us(cache: Path) -> frozenset[str]:
    """The entries of a cache that this process has noted."""
    with _ours.guard:
        same = _ours.file is not None and _ours.file.parent == cache
        return frozenset(_ours.entries) if same else frozenset()


def by_others(cache: Path) -> frozenset[str]:
    """The entries of a cache that other living processes have noted; removes what dead ones noted."""
    found: set[str] = set()
    for file in cache.glob(f"{_PREFIX}*"):
        # Our own is never opened a second time: closing it would give the lock back.
        if file == _ours.file:
            continue
        with suppress(OSError), locks.if_free(file) as dead:  # gone meanwhile
            if not dead:
                found.update(file.read_text().splitlines())
    return frozenset(found)
