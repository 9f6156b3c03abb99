"""The cache folder: things built once, found again by the hash of what they were built from.

An entry is made under a temporary name beside its place and renamed when it is complete. So an interrupted build, a
full disk or a second process at the same work never leave half an entry under a name that somebody trusts.
"""

import errno
import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache as cache_results
from pathlib import Path

from kvmharness.errors import UsageError
from kvmharness.system import inuse, locks
from kvmharness.system.programs import Progress, disk_errors, silent

_SCRATCH_PREFIX = ".making-"  # then the key, a dot and something random
_LOCK_PREFIX = ".lock-"  # then the key
_WAY_OUT = "set XDG_CACHE_HOME to a folder of your own"


def root() -> Path:
    """``$XDG_CACHE_HOME/kvmharness``, by default ``~/.cache/kvmharness``; made when it does not exist.

    Raises:
        UsageError: it cannot be made, or somebody else can write there: kernels and programs are taken from it as they
            are.
        DiskFullError: there is no room for it.
    """
    return _ours(_place())


def folder(kind: str) -> Path:
    """The folder of a kind, to make entries in. Raises: as :func:`root`; UsageError, nothing can be written there."""
    place = _ours(root() / kind)
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"the cache folder {place} cannot be written to", _WAY_OUT)
    return place


def _place() -> Path:
    """Where it is.

    Raises:
        UsageError: neither the environment nor the list of users says where; or it is relative to the folder that
            happens to be the current one, which the XDG Base Directory Specification calls invalid.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    if not base:
        base = os.path.join(os.path.expanduser("~"), ".cache")
        if base.startswith("~"):
            raise UsageError(
                "there is no place for the cache folder: HOME is not set, nor is this user known", _WAY_OUT
            )
    if not os.path.isabs(base):
        raise UsageError(f"the place of the cache folder is a relative path: {base!r}", _WAY_OUT)
    return Path(base) / "kvmharness"


def _ours(folder: Path) -> Path:
    """The folder, made when it does not exist, and refused when it cannot be, or others can write there."""
    try:
        with disk_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        why = _shared(folder)
    except OSError as error:
        reason = errno.errorcode.get(error.errno or 0, "?")
        raise UsageError(f"cannot make the cache folder {folder}: {error.strerror} ({reason})", _WAY_OUT) from None
    if why:
        raise UsageError(f"the cache folder {folder} {why}", f"chmod -R go-w {folder} if it is yours; or {_WAY_OUT}")
    return folder


def _shared(folder: Path) -> str:
    """Who else can write to a folder, in words; empty when nobody can."""
    found = folder.stat()
    if found.st_uid != os.geteuid():
        return f"belongs to user {found.st_uid}, and this is run by user {os.geteuid()}"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"may be written to by others: its mode is {stat.S_IMODE(found.st_mode):04o}"
    return ""


def digest(*facts: object) -> str:
    """A short name for what *facts* (JSON-able, or bytes) say, the same on every machine."""
    hasher = hashlib.sha256()
    for fact in facts:
        data = fact if isinstance(fact, bytes) else json.dumps(fact, sort_keys=True, default=str).encode()
        hasher.update(len(data).to_bytes(8, "little") + data)
    return hasher.hexdigest()[:20]


def folder_entry(kind: str, key: str, make: Callable[[Path], None], progress: Progress = silent) -> Path:
    """The folder ``kind/key`` of the cache; *make* fills it if it is not there yet.

    One process makes it; others that want it meanwhile wait, and tell *progress* so about once a second.
    """

    def filled(scratch: Path) -> Path:
        make(scratch)
        return scratch

    return _entry(kind, key, filled, progress)


def file_entry(kind: str, key: str, make: Callable[[Path], None], progress: Progress = silent) -> Path:
    """The file ``kind/key`` of the cache; *make* writes it if it is not there yet. Otherwise as a folder."""

    def written(scratch: Path) -> Path:
        make(scratch / "file")
        return scratch / "file"

    return _entry(kind, key, written, progress)


def _entry(kind: str, key: str, make: Callable[[Path], Path], progress: Progress) -> Path:
    place = folder(kind) / key
    _remove_leftovers_once(place.parent.parent)

    def waiting(seconds: float) -> None:
        progress(f"waiting for another process that makes the same ({kind}/{key}), {seconds:.0f} s")

    with disk_errors(place.parent), locks.locked(_lock(place.parent, key), waiting):
        _remove_half_made(place.parent, key)
        if not place.exists():
            with _scratch(place) as scratch:
                make(scratch).rename(place)
        os.utime(place)
        # While its lock is held: whoever removes entries takes that first.
        inuse.note(place.parent.parent, f"{kind}/{key}")
    return place


def _lock(folder: Path, key: str) -> Path:
    return folder / f"{_LOCK_PREFIX}{key}"


def remove_leftovers() -> None:
    """Removes what dead processes left half-made, of all kinds; nothing where others can write, or nothing is."""
    try:
        place = _place()
        if not place.is_dir() or _shared(place):
            return
    except (UsageError, OSError):  # whoever needs a cache is told by root()
        return
    inuse.by_others(place)
    for folder in (path for path in place.iterdir() if path.is_dir()):
        with suppress(OSError):  # somebody else removes it at the same time
            _remove_half_made(folder)
            for lock in folder.glob(f"{_LOCK_PREFIX}*"):
                with locks.if_free(lock):  # which deletes it
                    pass


@cache_results
def _remove_leftovers_once(_root: Path) -> None:
    """For those that use the cache without being a command, as tests do."""
    remove_leftovers()


def _remove_half_made(folder: Path, held: str = "") -> None:
    """Removes what dead makers left in *folder*: the living hold the lock of what they make, and we that of *held*."""
    for scratch in folder.glob(f"{_SCRATCH_PREFIX}*"):
        key = scratch.name.removeprefix(_SCRATCH_PREFIX).rpartition(".")[0]
        with nullcontext(True) if key == held else locks.if_free(_lock(folder, key)) as dead:
            if dead:
                shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    """A folder beside *place* that is gone afterwards, whatever happened, unless it was renamed."""
    scratch = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH_PREFIX}{place.name}.", dir=place.parent))
    try:
        scratch.chmod(0o755)
        yield scratch
    except BaseException:
        _discard(scratch)
        raise
    shutil.rmtree(scratch, ignore_errors=True)


def _discard(folder: Path) -> None:
    """Deletes *folder* without waiting: a kernel's tree takes long, and whoever presses Ctrl-C wants out."""
    remover = shutil.which("rm")
    if remover is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        os.posix_spawn(remover, ["rm", "-rf", str(folder)], os.environ, setsid=True)


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry as it is on the disk.

    Attributes:
        key: its name.
        size_bytes: that it takes on the disk.
        used_s: when it was last used, in seconds since the epoch.
    """

    key: str
    size_bytes: int
    used_s: float


def kinds() -> tuple[str, ...]:
    """The kinds of which there are entries, or were."""
    return tuple(sorted(path.name for path in root().iterdir() if path.is_dir()))


def entries(kind: str) -> tuple[Stored, ...]:
    """The entries of a kind, the one that was used last first; those that others remove meanwhile may be left out."""
    found = [Stored(path.name, _size(path), _last_use(path)) for path in _entries(kind)]
    return tuple(sorted(found, key=lambda entry: entry.used_s, reverse=True))


def keep_newest(kind: str, count: int, unused_s: float = math.inf) -> None:
    """Deletes all but the *count* entries of *kind* that were used last, and those not used for so many seconds.

    What a living process uses stays, this one included.
    """
    oldest = time.time() - unused_s
    ours = inuse.by_us(root())
    for number, path in enumerate(sorted(_entries(kind), key=_last_use, reverse=True)):
        if (number >= count or _last_use(path) < oldest) and f"{kind}/{path.name}" not in ours:
            remove(kind, path.name)


def in_use(kind: str, key: str) -> None:
    """Keeps the entry ``kind/key``, which is made by other means than these here, for as long as this process lives."""
    inuse.note(root(), f"{kind}/{key}")


def found(kind: str, key: str) -> Path | None:
    """The entry ``kind/key`` where it is made already, to be used."""
    if not (root() / kind / key).exists():
        return None
    with suppress(FileNotFoundError):
        return _entry(kind, key, _never, silent)
    return None


def _never(scratch: Path) -> Path:
    raise FileNotFoundError(scratch)  # the entry was removed at this very moment


@contextmanager
def intact(place: Path) -> Iterator[None]:
    """Around what reads an entry: where that fails, the entry is damaged, by a disk or by somebody's hand.

    Raises:
        UsageError: with the command that removes it, so that it is made again.
    """
    try:
        yield
    except (OSError, LookupError, TypeError, ValueError, UsageError) as error:
        kind = place.parent.name
        raise UsageError(
            f"the cache entry {kind}/{place.name} is damaged: {error}", f"kvmharness cache --prune {kind}"
        ) from None


def remove(kind: str, key: str) -> bool:
    """Deletes the entry ``kind/key``, whole or in part, and says whether it is gone.

    It stays when somebody is making it, or another living process uses it.
    """
    place = root() / kind / key
    if not place.parent.is_dir():
        return True
    with locks.if_free(_lock(place.parent, key)) as free:
        if not free or f"{kind}/{key}" in inuse.by_others(root()):
            return False
        # Out of its place at once: half of it must not be taken for an entry.
        with suppress(FileNotFoundError), _scratch(place) as scratch:
            place.rename(scratch / "old")
    return True


def _entries(kind: str) -> list[Path]:
    folder = root() / kind
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if not path.name.startswith((_SCRATCH_PREFIX, _LOCK_PREFIX))]


def _size(path: Path) -> int:
    """In bytes on the disk, of a file or a folder; what vanishes meanwhile is not counted."""
    inside = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
    total = 0
    for each in (str(path), *inside):
        with suppress(FileNotFoundError):
            total += os.lstat(each).st_blocks * 512
    return total


def _last_use(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process has deleted it
        return 0.0
