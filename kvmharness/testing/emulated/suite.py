"""What of a test suite goes into an emulated host: the test files, their conftests, and the modules they import.

Found by reading imports. What else a test reads is named by the ini option ``kvm_files``, packages that it needs
without importing them by ``kvm_packages``.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, distribution, distributions, packages_distributions
from pathlib import Path

import pytest

from kvmharness.lab.image.closure import submodules

ROOT = "suite"
"""The folder inside that stands for the rootdir."""

# What pytest is made of, and the modules of the standard library that it reaches through others of it. It colours
# nothing inside, so of pygments only what is imported at once comes along.
PYTEST = (
    *("pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging", "pygments.token"),
    *("gettext", "csv", "socket", "zipfile", "encodings.unicode_escape", "encodings.utf_8_sig"),
    *("kvmharness.testing", "kvmharness.pytest_plugin", "kvmharness.abi", "kvmharness.kvm"),
)
# And what of these every session loads inside.
_LOADED_FIRST = (
    *("pytest", "_pytest", "pluggy", "readline", "kvmharness.pytest_plugin"),
    *("kvmharness.testing.emulated.heartbeat", "kvmharness.testing.emulated.inside"),
    *("kvmharness.testing.failure", "kvmharness.testing.fixtures", "kvmharness.testing.needs"),
    "kvmharness.cells.language",
)
_CARRIED_ANYWAY = frozenset(name.partition(".")[0] for name in PYTEST)


@dataclass(frozen=True, slots=True)
class Suite:
    """What is carried.

    Attributes:
        files: by path inside.
        packages: importable names of pytest's parts, of what the files import besides each other, and of what that
            requires in turn.
        plugins: modules of those packages that are plugins of pytest.
        imports: modules that every session loads before it reads a test file.
    """

    files: dict[str, Path]
    packages: tuple[str, ...]
    plugins: tuple[str, ...]
    imports: tuple[str, ...]


def suite(config: pytest.Config, items: Iterable[pytest.Item]) -> Suite:
    """What *items* take.

    Raises:
        pytest.UsageError: a test file is not below the rootdir.
    """
    root = config.rootpath
    wanted: list[Path] = []
    needs_keystone = False
    for item in items:
        if not item.path.is_relative_to(root):
            raise pytest.UsageError(f"{item.path} is not below the rootdir {root}: give --rootdir")
        wanted += [item.path, *_conftests(root, item.path)]
        needs_keystone |= "assemble" in getattr(item, "fixturenames", ())
    found, packages = _closure(root, wanted, config.getini("pythonpath"))
    for pattern in config.getini("kvm_files"):
        found |= {path for path in root.glob(pattern) if path.is_file()}
    packages |= set(config.getini("kvm_packages")) | ({"keystone"} if needs_keystone else set())
    packages |= required_by(packages)
    files = {f"{ROOT}/{path.relative_to(root)}": path for path in sorted(found)}
    plugins = _plugins(packages)
    return Suite(files, (*PYTEST, *sorted(packages)), plugins, _imported_first(packages, plugins))


def _imported_first(packages: set[str], plugins: Iterable[str]) -> tuple[str, ...]:
    """What costs seconds inside and is the same for every session, whatever its files say."""
    # What pytest is to rewrite must not be there before it: see pytest.register_assert_rewrite().
    always = [module for name in _LOADED_FIRST for module in submodules(name) if "pytester" not in module]
    return tuple(dict.fromkeys([*always, *plugins, *sorted(packages - sys.stdlib_module_names)]))


def _conftests(root: Path, path: Path) -> Iterator[Path]:
    """What pytest loads before a test file: conftests and the packages' own files, from the rootdir on."""
    for folder in path.parents:
        for name in ("conftest.py", "__init__.py"):
            if (folder / name).is_file():
                yield folder / name
        if folder == root:
            return


def _closure(root: Path, start: Iterable[Path], pythonpath: Iterable[Path]) -> tuple[set[Path], set[str]]:
    """The local files that *start* import, directly or not, and the names of packages from elsewhere."""
    bases = [root, *pythonpath]
    files: set[Path] = set()
    packages: set[str] = set()
    wanted = list(start)
    while wanted:
        path = wanted.pop()
        if path in files:
            continue
        files.add(path)
        if path.suffix != ".py":
            continue
        for name in _imports(path):
            folders = [_import_base(path), *bases]
            top = name.partition(".")[0]
            wanted += _local(name, folders)
            # `from a import b` gives a.b, which may be a name in a rather than a module.
            if not _local(top, folders) and _is_package(top):
                packages.add(top)
    return files, packages


def _imports(path: Path) -> Iterator[str]:
    """Dotted names that a file asks for, relative ones made whole."""
    package = path.parent.relative_to(_import_base(path)).parts
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _import_base(path: Path) -> Path:
    """The folder that is on sys.path for a test file: the first one above it that is no package."""
    folder = path.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _local(name: str, bases: Iterable[Path]) -> list[Path]:
    """The files of a module that lies in one of *bases*, its packages' included."""
    parts = name.split(".")
    for base in bases:
        place = base.joinpath(*parts)
        own = [path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()]
        if own:
            packages = [base.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts))]
            return [*own, *(path for path in packages if path.is_file())]
    return []


def _is_package(name: str) -> bool:
    if not name or name in sys.builtin_module_names or name in _CARRIED_ANYWAY:
        return False
    spec = PathFinder.find_spec(name)
    return spec is not None and spec.has_location


def required_by(packages: set[str]) -> set[str]:
    """The importable names of what the distributions of *packages* require, directly or not."""
    third_party = packages - sys.stdlib_module_names
    if not third_party:
        return set()
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    providers = packages_distributions()
    wanted = [name for package in third_party for name in providers.get(package, ())]
    seen: set[str] = set()
    while wanted:
        name = canonicalize_name(wanted.pop())
        if name in seen:
            continue
        seen.add(name)
        try:
            requirements = [Requirement(text) for text in distribution(name).requires or ()]
        except PackageNotFoundError:
            continue
        wanted += [one.name for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    names = {top for top, owners in providers.items() if seen & {canonicalize_name(owner) for owner in owners}}
    return {name for name in names - _CARRIED_ANYWAY if name.isidentifier() and _is_package(name)}


def _plugins(packages: set[str]) -> tuple[str, ...]:
    """The pytest plugins among *packages*, by their entry points."""
    return tuple(sorted(module for module in _entry_points() if module.partition(".")[0] in packages))


@cache
def _entry_points() -> tuple[str, ...]:
    return tuple(point.value for one in distributions() for point in one.entry_points if point.group == "pytest11")
