"""Which Python modules a program needs, found by reading imports, running nothing.

The image carries only these, because each file costs time in the emulator. Imports inside functions count as well
(they are what happens on an error path); imports for type checking only do not.
"""

import ast
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES, FrozenImporter, ModuleSpec, PathFinder
from pathlib import Path

_CORE = """
    abc codecs encodings encodings.aliases encodings.ascii encodings.latin_1 encodings.utf_8 io os posixpath stat
    _collections_abc linecache tokenize traceback warnings threading
"""
_DOORS = """
    argparse asyncio bz2 concurrent csv ctypes curses distutils doctest email gettext gzip http logging lzma
    multiprocessing optparse pdb pickle pydoc socket sqlite3 ssl subprocess tarfile tempfile test tkinter typing
    unicodedata unittest urllib xml zipfile _hashlib _pydecimal _pyio _strptime
"""
_LEAN_DOORS = """
    ast copy encodings.mbcs importlib._bootstrap importlib._bootstrap_external importlib.abc importlib.metadata
    importlib.readers inspect ntpath tracemalloc _py_abc _threading_local
"""
# What CPython itself imports before it runs anything (with -S), and what an error message may need.
INTERPRETER_ROOTS = tuple(_CORE.split())
# Doors from the standard library's core into its large parts, opened only by calls that nothing in an emulated host
# makes (or that the caller then names as a root of its own).
STOPPED_AT = frozenset(_DOORS.split())
# And those that only packages of others open: what is left then is what measured cells load, and error messages.
LEAN_STOPPED_AT = STOPPED_AT | frozenset(_LEAN_DOORS.split())
# What a module imports by a name that it makes up: how the interpreter was built.
_MULTIARCH = getattr(sys.implementation, "_multiarch", "")
_BY_NAME = {"sysconfig": (f"_sysconfigdata_{sys.abiflags}_{sys.platform}_{_MULTIARCH}",)}
_SKIPPED_FOLDERS = frozenset(("__pycache__", "tests", "testing"))


@dataclass(frozen=True, slots=True)
class Found:
    """One module that is to go into the image.

    Attributes:
        name: the full dotted name.
        origin: its source file or shared object.
        is_package: the module is a folder's ``__init__``.
    """

    name: str
    origin: Path
    is_package: bool

    @property
    def is_extension(self) -> bool:
        """A shared object rather than Python source."""
        return self.origin.name.endswith(tuple(EXTENSION_SUFFIXES))


Follow = Callable[[str, str, bool], bool]
"""Whether an import counts: who imports, what, and whether that is at once, as the importer is itself imported."""


def closure(roots: Iterable[str], follow: Follow) -> dict[str, Found]:
    """Every module that *roots* import, directly or not, by name.

    Args:
        roots: dotted module names. One that does not exist is left out, as are modules that the interpreter has inside
            it, built in or frozen.
        follow: which imports count.
    """
    found: dict[str, Found] = {}
    seen: set[str] = set()
    wanted = list(roots)
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        module = find(name)
        if module is None:
            continue
        found[name] = module
        parent = name.rpartition(".")[0]
        if parent:
            wanted.append(parent)
        wanted += _BY_NAME.get(name, ())
        if module.is_extension:
            continue
        wanted += [other for other, at_once in _imports(module) if follow(name, other, at_once)]
    return found


def follow_core(importer: str, imported: str, at_once: bool = True) -> bool:
    """For a lean image: no package of others, and nothing behind the standard library's :data:`LEAN_STOPPED_AT`."""
    return _follow(importer, imported, LEAN_STOPPED_AT)


def _follow(importer: str, imported: str, doors: frozenset[str]) -> bool:
    top = imported.partition(".")[0]
    if top not in sys.stdlib_module_names:
        return top == "kvmharness"
    return not doors & {top, imported} or importer.partition(".")[0] not in sys.stdlib_module_names


def follow_packages(packages: Iterable[str]) -> Follow:
    """For an image with *packages* of others: what they import of each other and of the standard library.

    A package that none of them names is left out, since most such imports are for what may or may not be installed. A
    door of the standard library is opened where a module could not even be imported without what is behind it.
    """
    followed = {name.partition(".")[0] for name in packages}

    def follow(importer: str, imported: str, at_once: bool) -> bool:
        top = imported.partition(".")[0]
        if top in followed or top == importer.partition(".")[0] or (at_once and top in sys.stdlib_module_names):
            return True
        return _follow(importer, imported, STOPPED_AT)

    return follow


def submodules(package: str) -> Iterator[str]:
    """The names of *package* and of every module below it; none where the interpreter has it inside."""
    if _inside_the_interpreter(package):
        return
    found = find(package)
    if found is None:
        raise ModuleNotFoundError(f"no module named {package!r} in the running Python")
    yield package
    if not found.is_package:
        return
    folder = found.origin.parent
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if path.name.endswith((".py", ".so")) and not _SKIPPED_FOLDERS.intersection(inner.parts):
            parts = [*inner.parts[:-1], path.name.partition(".")[0]]
            yield ".".join([package, *(part for part in parts if part != "__init__")])


def find(name: str) -> Found | None:
    """Locates a module's file without importing it or its parents; None where there is none, or none is read."""
    if _inside_the_interpreter(name):
        return None
    path: list[str] | None = None
    spec: ModuleSpec | None = None
    parts = name.split(".")
    for depth in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: depth + 1]), path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    if spec is None or spec.origin is None or not spec.has_location:
        return None
    return Found(name, Path(spec.origin), spec.submodule_search_locations is not None)


def _inside_the_interpreter(name: str) -> bool:
    return name in sys.builtin_module_names or FrozenImporter.find_spec(name) is not None


def _imports(module: Found) -> Iterator[tuple[str, bool]]:
    """The dotted names that a module's source asks for; for ``from a import b`` both ``a`` and ``a.b``.

    With each whether it must be there for the module to be imported: not inside a function, nor where its absence is
    caught.
    """
    tree = ast.parse(module.origin.read_bytes(), str(module.origin))
    package = module.name if module.is_package else module.name.rpartition(".")[0]
    for node, at_once in _live_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            above = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (above, node.module or "") if part)
            yield base, at_once
            yield from ((f"{base}.{alias.name}", at_once) for alias in node.names)


_LATER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.Try)


def _live_nodes(node: ast.AST, at_once: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes, but for what stands under ``if TYPE_CHECKING`` or ``if __name__ == "__main__"``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ("TYPE_CHECKING" in (text := ast.unparse(child.test)) or "__main__" in text):
            for other in child.orelse:
                yield other, at_once
                yield from _live_nodes(other, at_once)
            continue
        yield child, at_once
        yield from _live_nodes(child, at_once and not isinstance(child, _LATER))
