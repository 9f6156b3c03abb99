"""The cache folder: things built once, found again by the hash of what they were built from.

An entry is made under a temporary name beside its place and renamed when it is complete. So an interrupted build, a
full disk or a second process at the same work never leave half an entry under a name that somebody trusts.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kvmharness.system.programs import Progress, disk_errors, silent

_STALE_PREFIX = ".making-"
_LOCK_PREFIX = ".lock-"
_WAIT_S = 1.0
# Nothing is in the making for so long; whoever made it was killed.
_STALE_S = 24 * 3600.0


def root() -> Path:
    """``$XDG_CACHE_HOME/kvmharness``, by default ``~/.cache/kvmharness``; made when it does not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "kvmharness"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def digest(*facts: object) -> str:
    """A short name for what *facts* (JSON-able, or bytes) say, the same on every machine."""
    hasher = hashlib.sha256()
    for fact in facts:
        data = fact if isinstance(fact, bytes) else json.dumps(fact, sort_keys=True, default=str).encode()
        hasher.update(len(data).to_bytes(8, "little") + data)
    return hasher.hexdigest()[:20]


def folder_entry(kind: str, key: str, make: Callable[[Path], None], progress: Progress = silent) -> Path:
    """The folder ``kind/key`` of the cache; *make* fills it if it is not there yet.

    One process makes it; others that want it meanwhile wait, and tell *progress* so.
    """
    place = root() / kind / key
    with disk_errors(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
    with _turn(place.parent / f"{_LOCK_PREFIX}{key}", progress):
        if place.is_dir():
            os.utime(place)
            return place
        with _scratch(place) as scratch:
            make(scratch)
            scratch.rename(place)
    return place


def file_entry(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The file ``kind/key`` of the cache; *make* writes it if it is not there yet."""
    place = root() / kind / key
    if place.is_file():
        os.utime(place)
        return place
    with _scratch(place) as scratch:
        make(scratch / "file")
        os.replace(scratch / "file", place)
    return place


@contextmanager
def _turn(lock: Path, progress: Progress) -> Iterator[None]:
    """Hold *lock*, a file with our process id, after whoever holds it is done or dead."""
    while True:
        try:
            with disk_errors(lock), lock.open("x") as file:
                file.write(str(os.getpid()))
            break
        except FileExistsError:
            holder = _holder(lock)
            if holder is None:
                lock.unlink(missing_ok=True)
                continue
            progress(f"waiting for process {holder}, which is making the same")
            time.sleep(_WAIT_S)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _holder(lock: Path) -> int | None:
    """The living process that holds *lock*; None when there is none."""
    try:
        # Written just after the file was made; an empty one is that short moment.
        holder = int(lock.read_text() or os.getpid())
        os.kill(holder, 0)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    except PermissionError:  # alive, and another user's
        return holder
    return holder


@contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    """A folder beside *place* that is gone afterwards, whatever happened, unless it was renamed."""
    with disk_errors(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=_STALE_PREFIX, dir=place.parent))
        try:
            scratch.chmod(0o755)
            yield scratch
        except BaseException:
            _discard(scratch)
            raise
        shutil.rmtree(scratch, ignore_errors=True)


def _discard(folder: Path) -> None:
    """Delete *folder* without waiting: a kernel's tree takes long, and whoever presses Ctrl-C wants out."""
    remover = shutil.which("rm")
    if remover is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        os.posix_spawn(remover, ["rm", "-rf", str(folder)], os.environ, setsid=True)


def forget(kind: str, key: str) -> None:
    """Delete the file ``kind/key``, if it is there."""
    (root() / kind / key).unlink(missing_ok=True)


def keep_newest(kind: str, count: int) -> None:
    """Delete all but the *count* entries of *kind* that were used last, and what a killed process left half made."""
    paths = list((root() / kind).iterdir())
    entries = [path for path in paths if not path.name.startswith((_STALE_PREFIX, _LOCK_PREFIX))]
    stale = [p for p in paths if p not in entries and time.time() - p.stat().st_mtime > _STALE_S]
    for path in [*sorted(entries, key=lambda p: p.stat().st_mtime, reverse=True)[count:], *stale]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
