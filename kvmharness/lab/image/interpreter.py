"""The running Python, trimmed, as files of an image: interpreter, standard library, packages, shared objects.

Source files become byte code without source (nothing to compare or compile inside). Shared objects lie flat in /lib,
stripped of symbols where ``strip`` is at hand, and are found there by the loader's search path (see image.py).
"""

import marshal
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import MAGIC_NUMBER
from pathlib import Path

from kvmharness.lab.image.closure import (
    INTERPRETER_ROOTS,
    Found,
    closure,
    find,
    follow_core,
    follow_packages,
    submodules,
)
from kvmharness.lab.image.cpio import Archive
from kvmharness.system import cache
from kvmharness.system.programs import run
from kvmharness.system.scratch import temporary_folder

HOME = "/py"
PYTHON = "/bin/python3"
LIBRARY = f"{HOME}/lib/python{sys.version_info.major}.{sys.version_info.minor}"

ENVIRONMENT = {
    "LD_LIBRARY_PATH": "/lib",
    "PYTHONHOME": HOME,
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUTF8": "1",
    "PYTHONNOUSERSITE": "1",
}
"""What the interpreter wants to find in its environment inside."""

# What of this package runs inside; whatever else a job calls is named by its packages.
_INSIDE = (
    *("kvmharness.lab.inside", "kvmharness.cells.execute", "kvmharness.cells.surroundings", "kvmharness.cells.trace"),
    *("kvmharness.litmus.execute", "kvmharness.suites.unittests.execute"),
)
# A byte-code file's header: magic, flags 0b01 (checked by hash, and never compared), no hash.
_PYC_HEADER = MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
_LDD_LINE = re.compile(r"(?:(?P<name>\S+) => )?(?P<path>/\S+) \(0x")


def own_modules() -> tuple[str, ...]:
    """The modules of this package that run inside, without those that they import."""
    return tuple(dict.fromkeys(name for package in _INSIDE for name in submodules(package)))


@dataclass(frozen=True, slots=True)
class PythonParts:
    """Which Python modules an image carries.

    Attributes:
        packages: besides kvmharness: importable names of packages or modules, those of the standard library too that
            only they reach, with what they import of each other. "a.b" brings a.b alone, and of the rest of a what is
            imported by the others.
    """

    packages: tuple[str, ...] = ()

    def roots(self) -> tuple[str, ...]:
        """The modules whose imports decide what goes in."""
        own = [name for package in _INSIDE for name in submodules(package)]
        extra = [name for package in self.packages for name in submodules(package)]
        return (*INTERPRETER_ROOTS, "_cffi_backend", *own, *extra)

    def identity(self) -> list[object]:
        """Facts that change when the resulting files would."""
        files = [path for name in ("kvmharness", "_cffi_backend", *self.packages) for path in _files_of(name)]
        stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return [sys.version, sys.base_prefix, self.packages, stats]


def image_contents() -> str:
    """Equal on two machines whose images hold the same Python and the same package, wherever these lie there."""
    files = [path for name in ("kvmharness", "_cffi_backend") for path in _files_of(name)]
    return cache.digest(sys.version, *(fact for path in files for fact in (path.name, path.read_bytes())))


def _files_of(package: str) -> list[Path]:
    found = find(package)
    if found is None:
        return []
    if not found.is_package:
        return [found.origin]
    return [p for p in sorted(found.origin.parent.rglob("*")) if p.is_file() and "__pycache__" not in p.parts]


def add_python(archive: Archive, parts: PythonParts) -> None:
    """Put the interpreter and *parts* into *archive*."""
    modules = closure(parts.roots(), follow_packages(parts.packages) if parts.packages else follow_core)
    shared: list[Path] = [Path(os.path.realpath(sys.executable))]
    archive.add_file(PYTHON, stripped(shared[0]), executable=True)
    for module in modules.values():
        place = f"{LIBRARY}/{module.name.replace('.', '/')}"
        if module.is_extension:
            archive.add_file(f"{place}.so", stripped(module.origin), executable=True)
            shared.append(module.origin)
        else:
            suffix = "/__init__.pyc" if module.is_package else ".pyc"
            archive.add_file(place + suffix, byte_code(module))
    for package in parts.packages:
        shared += _add_data_files(archive, package, modules)
    add_shared_libraries(archive, shared)


def byte_code(module: Found) -> bytes:
    """A module's source compiled, with a header that makes the interpreter trust it, and no path of this machine in it.

    The standard library loses its docstrings and assertions. This package and others keep them: dataclasses without a
    docstring would compute one, and assertions are what tests are made of.
    """
    optimize = 2 if module.name.partition(".")[0] in sys.stdlib_module_names else 0
    shown = f"{LIBRARY}/{module.name.replace('.', '/')}.py"
    code = compile(module.origin.read_bytes(), shown, "exec", dont_inherit=True, optimize=optimize)
    return _PYC_HEADER + marshal.dumps(code)


def _add_data_files(archive: Archive, package: str, modules: dict[str, Found]) -> list[Path]:
    """Files of a package that are not modules, and its metadata (entry points); returns its shared objects."""
    shared = []
    found = modules.get(package)
    if found is not None and found.is_package:
        folder = found.origin.parent
        for path in sorted(folder.rglob("*")):
            if (
                path.is_file()
                and path.suffix not in (".py", ".pyc", ".pyi")
                and path not in {m.origin for m in modules.values()}
            ):
                data = stripped(path) if ".so" in path.name else path.read_bytes()
                archive.add_file(f"{LIBRARY}/{package}/{path.relative_to(folder)}", data)
                shared += [path] if ".so" in path.name else []
    try:
        metadata = distribution(package)
    except PackageNotFoundError:
        return shared
    for name in ("METADATA", "entry_points.txt"):
        text = metadata.read_text(name)
        if text is not None:
            archive.add_file(f"{LIBRARY}/{package}-{metadata.version}.dist-info/{name}", text.encode())
    return shared


def add_shared_libraries(archive: Archive, binaries: Iterable[Path]) -> None:
    """The libraries that *binaries* are linked with, by ``ldd``, into /lib; the loader where they look for it."""
    for place, path in libraries(binaries).items():
        archive.add_file(place, stripped(path), executable=True)


def libraries(binaries: Iterable[Path]) -> dict[str, Path]:
    """The libraries that *binaries* are linked with, by their places in an image; none for what is static."""
    wanted: dict[str, Path] = {}
    for binary in binaries:
        # Not through run(): ldd's status is 1 for a static binary, which simply needs nothing.
        text = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False).stdout
        for match in _LDD_LINE.finditer(text):
            path = Path(match["path"])
            # A line without an arrow is the loader, under the full path that binaries name.
            wanted[f"/lib/{match['name']}" if match["name"] else str(path)] = path
    return wanted


def stripped(path: Path) -> bytes:
    """A binary without symbols that only a debugger wants, or as it is when there is no ``strip``."""
    if shutil.which("strip") is None:
        return path.read_bytes()
    with temporary_folder("strip") as folder:
        target = folder / "binary"
        run(["strip", "--strip-unneeded", "-o", str(target), str(path)])
        return target.read_bytes()
