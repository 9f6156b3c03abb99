"""Where a kernel comes from: Debian's source package, another tarball, or a tree, always as a private copy.

A tree that is given is never written to. What no KVM host of ours is made of (other architectures, most drivers) is
left out of the copy, which saves a gigabyte; Kconfig files and Makefiles all stay, because they name each other.
"""

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache as cache_results
from pathlib import Path
from stat import S_ISLNK, S_ISREG

from kvmharness.errors import UsageError
from kvmharness.system import cache
from kvmharness.system.programs import Progress, disk_errors, find, silent
from kvmharness.system.reading import SOURCE, TARBALL, check, fault
from kvmharness.system.unpacking import untar

_KEPT = 8  # unpacked sources, whole or in part
_TARBALL_SUFFIXES = (".tar", ".tar.xz", ".tar.gz", ".tar.bz2", ".tar.zst")

_TOP_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+~-]*")
_LONGEST_NAME = 4096

_UNUSED_DRIVERS = "gpu net media staging infiniband scsi isdn iio mtd bluetooth crypto"
# Sources below these folders are left out.
UNUSED = ("sound", *(f"drivers/{name}" for name in _UNUSED_DRIVERS.split()))
_UNUSED_ARCH = re.compile(r"arch/(?!x86/)[^/]+/")
_SOURCE_SUFFIXES = (".c", ".h", ".S", ".dts", ".dtsi")
_BUILT = re.compile(
    r"(^|/)(\.git|\.config|\.[^/]*\.cmd|[^/]*\.(o|a|ko|mod|order|symvers|cmd))$|^vmlinux|^include/(config|generated)"
)


@dataclass(frozen=True, slots=True)
class Source:
    """A kernel's source, not unpacked.

    Attributes:
        path: a tarball or a folder.
    """

    path: Path

    @property
    def name(self) -> str:
        """How to call it in messages and records."""
        return self.path.name

    def identity(self) -> str:
        """Changes when the source does: a tarball's hash; for a tree the names, sizes and times of its files."""
        if self.path.is_file():
            stat = self.path.stat()
            return _hash(self.path, stat.st_size, stat.st_mtime_ns)
        facts = ((name, stat.st_size, stat.st_mtime_ns) for name, stat in _walk(self.path))
        return cache.digest(*sorted(facts))

    def unpack(self, target: Path, folders: tuple[str, ...] = ()) -> None:
        """Fills the empty folder *target* with a private copy.

        Args:
            target: the folder.
            folders: of a tarball, only these folders of the kernel, and Kconfig.

        Raises:
            ReadError, UsageError: a tarball cannot be unpacked, or holds something else.
            MissingToolError, DiskFullError.
        """
        if self.path.is_file():
            _unpack_tarball(self.path, target, folders)
            return
        with disk_errors(target):
            for name, _ in _walk(self.path):
                place = target / name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.path / name, place, follow_symlinks=False)


def debian() -> Source:
    """The kernel source of Debian's package.

    Raises:
        MissingToolError: the package is not installed.
    """
    return Source(Path(find("linux-source-6.1.tar.xz")))


def at(path: Path) -> Source:
    """The source at *path*, which the user names.

    Raises:
        UsageError: it is neither a kernel tree nor a tarball, as far as its beginning shows.
    """
    if path.is_file() and path.name.endswith(_TARBALL_SUFFIXES):
        _top_folder(path)
        return Source(path.resolve())
    if (path / "arch/x86/kvm").is_dir() and (path / "Kconfig").is_file():
        return Source(path.resolve())
    raise UsageError(
        f"{path} is neither a Linux source tree nor a tarball of one",
        f"name a folder with arch/x86/kvm in it, or a file that ends in {', '.join(_TARBALL_SUFFIXES)}",
    )


def chosen(path: Path | None) -> Source:
    """The source that the user names, Debian's without one.

    Raises:
        UsageError, MissingToolError: as :func:`at` and :func:`debian`.
    """
    return debian() if path is None else at(path)


def to_read(source: Source, folders: tuple[str, ...], progress: Progress = silent) -> Path:
    """Some folders of a source as a tree to read; all of them without names. It is not to be written to.

    Raises:
        ReadError, UsageError, MissingToolError, DiskFullError: a tarball cannot be unpacked.
    """
    if source.path.is_dir():
        return source.path

    def unpack(folder: Path) -> None:
        progress(f"unpacking {source.name}")
        (folder / "tree").mkdir()
        source.unpack(folder / "tree", folders)

    entry = cache.folder_entry("sources", cache.digest(source.identity(), sorted(folders)), unpack, progress)
    cache.keep_newest("sources", _KEPT)
    return entry / "tree"


def _unpack_tarball(tarball: Path, target: Path, wanted: tuple[str, ...]) -> None:
    folders = [*UNUSED, "arch/[!x]*", "arch/xtensa"]
    # In an exclusion * also matches slashes, so the tarball's top folder must be named.
    top = _top_folder(tarball)
    unused = [f"--exclude={top}/{folder}/*{suffix}" for folder in folders for suffix in _SOURCE_SUFFIXES]
    members = [f"{top}/{name.rstrip('/')}" for name in ("Kconfig", *wanted)] if wanted else []
    anchored = ["--anchored", "--wildcards", "--wildcards-match-slash"]
    untar(tarball, target, ["--strip-components=1", *anchored, *unused, "--", *members], TARBALL, SOURCE)
    if not (target / "Kconfig").is_file() or not (wanted or (target / "arch/x86/kvm").is_dir()):
        raise UsageError(
            f"{tarball} does not hold a Linux source tree in one top folder: no Kconfig, or no arch/x86/kvm",
            TARBALL.hint,
        )


def _top_folder(tarball: Path) -> str:
    """The first name in a tarball, up to its first slash; read without unpacking all of it.

    Raises:
        ReadError: there is none, or one that tar would take for a pattern.
    """
    check(tarball, TARBALL)
    command = [find("tar"), "-t", "-f", str(tarball)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        first = process.stdout.readline(_LONGEST_NAME).decode(errors="replace").strip().removeprefix("./")
        process.kill()
    if not first:
        raise fault(str(tarball), TARBALL, "it is none, or an empty one")
    top = first.partition("/")[0]
    if not _TOP_FOLDER.fullmatch(top):
        raise fault(str(tarball), TARBALL, f"its top folder has an unusual name: {top!r}")
    return top


@cache_results
def _hash(path: Path, _size_bytes: int, _changed_ns: int) -> str:
    """Of a file; it has a hundred megabytes, and is asked for several times in a run."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _walk(tree: Path) -> list[tuple[str, os.stat_result]]:
    """The files of *tree* that belong into a copy, by relative name."""
    found = []
    for folder, folders, names in os.walk(tree):
        base = os.path.relpath(folder, tree)
        prefix = "" if base == "." else f"{base}/"
        folders[:] = sorted(name for name in folders if not _BUILT.search(prefix + name))
        for name in sorted(names):
            path = prefix + name
            if not _BUILT.search(path) and not _is_unused(path):
                facts = os.lstat(os.path.join(folder, name))
                if S_ISREG(facts.st_mode) or S_ISLNK(facts.st_mode):  # a pipe or a device would never end
                    found.append((path, facts))
    return found


def _is_unused(path: str) -> bool:
    below = path.startswith(tuple(f"{folder}/" for folder in UNUSED)) or _UNUSED_ARCH.match(path)
    return bool(below) and path.endswith(_SOURCE_SUFFIXES)
