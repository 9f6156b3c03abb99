"""The cache folder: things built once, found again by the hash of what they were built from.

An entry is made under a temporary name beside its place and renamed when it is complete. So an interrupted build, a
full disk or a second process at the same work never leave half an entry under a name that somebody trusts.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kvmharness.lab.tools import disk_errors

_STALE_PREFIX = ".making-"


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


def folder_entry(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder ``kind/key`` of the cache; *make* fills it if it is not there yet."""
    place = root() / kind / key
    if place.is_dir():
        os.utime(place)
        return place
    with _scratch(place) as scratch:
        make(scratch)
        # Somebody else may have been quicker; what they made is as good.
        with contextlib.suppress(FileExistsError, OSError) if place.is_dir() else contextlib.nullcontext():
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
def _scratch(place: Path) -> Iterator[Path]:
    """A folder beside *place* that is gone afterwards, whatever happened, unless it was renamed."""
    with disk_errors(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=_STALE_PREFIX, dir=place.parent))
        try:
            scratch.chmod(0o755)
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def keep_newest(kind: str, count: int) -> None:
    """Delete all but the *count* entries of *kind* that were used last."""
    entries = [path for path in (root() / kind).glob("*") if not path.name.startswith(_STALE_PREFIX)]
    for path in sorted(entries, key=lambda p: p.stat().st_mtime, reverse=True)[count:]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
