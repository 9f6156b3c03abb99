"""Linux' own KVM selftests, all of them, built from the very tree under test.

They are linked with the C library that the interpreter is linked with too, so that an image has it already.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType

from kvmharness.lab.kernels.make import KernelBuildError, check_tools, make
from kvmharness.lab.kernels.trees import Overlay, link_tree
from kvmharness.system import cache
from kvmharness.system.programs import Progress, disk_errors, silent

FOLDER = "tools/testing/selftests/kvm"
# What they are made of, headers and Makefiles included: files, and folders with all that is in there.
_SOURCES = (
    *(FOLDER, "tools/testing/selftests/rseq", "tools/build", "tools/scripts", "tools/include", "tools/arch/x86"),
    *("include/uapi", "arch/x86/include/uapi", "arch/x86/entry/syscalls"),
    *(f"tools/testing/selftests/{name}" for name in ("lib.mk", "kselftest.h", "kselftest_harness.h", "cgroup")),
)
# Folders that `make headers` and the tests' own Makefile write to, or find the tree by.
_OWN_FOLDERS = ("usr", "scripts", "include/generated", "arch/x86/include/generated", FOLDER)
_UNCHANGED: Overlay = MappingProxyType({})
_LIST = "--eval=kvmharness-tests: ; @echo $(TEST_GEN_PROGS)"
_PLACE = re.compile(r"(?<![\w.-])[\w.-]+:\d+:(?:\d+:)? ")
_BUILD_TIMEOUT_S = 600.0
_KEPT = 16


@dataclass(frozen=True, slots=True)
class Selftests:
    """What came of building them.

    Attributes:
        binaries: by name, as in the kernel's tree: ``x86_64/smm_test``.
        missing: why one does not build, by name.
    """

    binaries: Mapping[str, Path]
    missing: Mapping[str, str] = field(default_factory=dict)


def build(tree: Path, overlay: Overlay = _UNCHANGED, *, progress: Progress = silent) -> Selftests:
    """Builds all selftests for this architecture; cached by what they are made of.

    Args:
        tree: :attr:`kvmharness.lab.kernels.build.Kernel.tree`; not written to.
        overlay: files that a variant changes: those that selftests are made of are taken from there.
        progress: takes a line about once a second.

    Returns:
        Those that build, and those that do not, with the compiler's first word about it.

    Raises:
        KernelBuildError: the tree's headers or its list of tests cannot be made.
        MissingToolError, DiskFullError.
    """
    changed = {path: data for path, data in overlay.items() if path.startswith(_SOURCES)}

    def fill(folder: Path) -> None:
        check_tools()
        farm = folder / "tree"
        link_tree(tree, farm, changed, tuple(path for path in _OWN_FOLDERS if (tree / path).is_dir()))
        common = partial(make, progress=progress, timeout_s=_BUILD_TIMEOUT_S, scratch=folder, base=tree)
        common(farm, "headers", what="kernel headers")
        output = folder / "out"
        with disk_errors(output):
            output.mkdir()
        make_it = partial(common, farm / FOLDER, f"OUTPUT={output}")
        names = _names(make_it, output)
        missing = _build(make_it, output, names)
        for name in names.difference(missing):
            place = folder / "bin" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            (output / name).rename(place)
        (folder / "missing.json").write_text(json.dumps(missing))

    folder = cache.folder_entry("selftests", cache.digest(3, *_content(tree, changed)), fill, progress)
    cache.keep_newest("selftests", _KEPT)
    built = {str(path.relative_to(folder / "bin")): path for path in (folder / "bin").rglob("*") if path.is_file()}
    return Selftests(dict(sorted(built.items())), json.loads((folder / "missing.json").read_text()))


def _names(make_it: Callable[..., tuple[str, ...]], output: Path) -> set[str]:
    """The tests that the tree's own Makefile lists."""
    # Whatever else is being built from where we were started.
    said = make_it("-s", _LIST, "kvmharness-tests", what="list of KVM selftests", env={"ARCH": "x86"})
    words = (word for line in said for word in line.split())
    return {word.removeprefix(f"{output}/") for word in words if word.startswith(f"{output}/")}


def _build(make_it: Callable[..., tuple[str, ...]], output: Path, names: set[str]) -> dict[str, str]:
    """Builds them; why one does not build, by its name."""

    def make_them(*chosen: str) -> None:
        # The Makefile adds to what these variables hold already; on its command line they would replace its own.
        env = {"LDFLAGS": "-s", "CFLAGS": "-Wno-error"}
        make_it("-k", *(f"{output}/{name}" for name in chosen), what="KVM selftests", env=env)

    try:
        make_them(*sorted(names))
    except KernelBuildError as error:
        missing = sorted(name for name in names if not (output / name).is_file())
        if len(missing) == len(names):  # it is no test's own fault
            return dict.fromkeys(missing, _first_word(error))
        why: dict[str, str] = {}
        for name in missing:
            try:
                make_them(name)
            except KernelBuildError as own:
                why[name] = _first_word(own)
        return why
    return {}


def _first_word(error: KernelBuildError) -> str:
    placed = (line[found.start() :] for line in error.lines if (found := _PLACE.search(line)))
    telling = (said for said in placed if "error: " in said or "undefined reference" in said)
    return f"it does not build: {next(telling, str(error).partition(chr(10))[0])}"


def _content(tree: Path, changed: Overlay) -> Iterator[object]:
    """What they are made of: a name and a hash of each file."""
    files = {str(path.relative_to(tree)): path for path in _files(tree)}
    for name in sorted({*files, *changed}):
        data = changed[name] if name in changed else files[name].read_bytes()
        if data is not None:
            yield name
            yield cache.digest(data)


def _files(tree: Path) -> Iterator[Path]:
    for source in _SOURCES:
        place = tree / source
        found = sorted(place.rglob("*")) if place.is_dir() else [place]
        yield from (path for path in found if path.is_file() and path.suffix not in (".o", ".cmd", ".a", ".d"))
