"""KVM compiled in ways other than the one that is run: with more warnings, and with options switched.

A check compiles in a tree of links, as a variant does. Where an option is switched, that starts from a tree with the
option switched, made once for a kernel, so that a variant compiles only what it changes and what depends on that.

An option is switched as the kernel's own configuration does it: in the two files that a build reads, and by touching
the file that stands for it among the dependencies. What the option needs or brings along is not looked at: the options
that KVM has for itself need KVM and bring nothing.

Source: scripts/kconfig/confdata.c, conf_write_autoconf and conf_touch_deps; scripts/basic/fixdep.c.
"""

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvmharness.lab.kernels.build import key_of
from kvmharness.lab.kernels.make import Said, check_tools, outcome
from kvmharness.lab.kernels.trees import KVM_FOLDERS, Overlay, link_tree
from kvmharness.system import cache
from kvmharness.system.files import write_whole
from kvmharness.system.programs import Progress, silent

BASE_TIMEOUT_S = 300.0
CHECK_TIMEOUT_S = 300.0
_KEPT_TREES = 8
_KEPT_RESULTS = 400
_CONFIG, _HEADER = "include/config/auto.conf", "include/generated/autoconf.h"
_KCONFIG = "arch/x86/kvm/Kconfig"
_FROM_KVM = {"arch/x86/kvm/": "", "virt/kvm/": "../../../virt/kvm/"}

Options = tuple[tuple[str, bool], ...]
"""Options of the kernel's configuration, without ``CONFIG_``, each to be y or not set."""


@dataclass(frozen=True, slots=True)
class Check:
    """One way to compile KVM.

    Attributes:
        options: switched.
        sources: compile only these files, with the warnings of W=1; else all modules.
    """

    options: Options = ()
    sources: tuple[str, ...] = ()

    @property
    def targets(self) -> list[str]:
        """What make is told."""
        return ["W=1", *map(_object, self.sources)] if self.sources else ["modules"]


def is_configured(tree: Path) -> bool:
    """Whether a tree has what a build leaves there for the next one."""
    return all((tree / path).is_file() for path in (_CONFIG, _HEADER, _KCONFIG))


def options(tree: Path, names: Iterable[str]) -> dict[str, bool]:
    """Those of the options that KVM has in a kernel, and whether they are set in its built tree."""
    known = re.findall(r"^config\s+(\w+)", (tree / _KCONFIG).read_text("utf-8", "replace"), re.MULTILINE)
    lines = (tree / _CONFIG).read_text().splitlines()
    return {name: f"CONFIG_{name}=y" in lines for name in names if name in known}


def users(tree: Path, headers: Iterable[str]) -> list[str]:
    """The C files of KVM that included one of the headers when the tree was built."""
    wanted = frozenset(headers)
    found = set()
    for path in (path for folder in KVM_FOLDERS for path in (tree / folder).rglob(".*.o.cmd")):
        text = path.read_text(errors="replace")
        source = re.search(r"^source_\S+ := (\S+\.c)$", text, re.MULTILINE)
        if source and not wanted.isdisjoint(map(_plain, text.split())):
            found.add(_plain(source[1]))
    return sorted(found)


def checked(tree: Path, overlay: Overlay, check: Check, *, what: str, progress: Progress = silent) -> Said:
    """Compiles KVM with the files of *overlay* in place of a built tree's own; what came of it is cached.

    Args:
        tree: see :func:`kvmharness.lab.kernels.build.variant`; it is not written to.
        overlay: content by path relative to the tree; None removes a file. All of these files are compiled anew.
        check: how.
        what: how to call it in messages.
        progress: takes a line about once a second.

    Raises:
        BuildTimeoutError: it took too long, which is not cached.
        MissingToolError, DiskFullError.
    """
    start = _switched(tree, check.options, progress)

    def make(file: Path) -> None:
        farm = file.parent / "tree"
        link_tree(start, farm, overlay)
        said = _made(farm, tree, check.targets, what, progress, CHECK_TIMEOUT_S)
        shutil.rmtree(farm)
        write_whole(file, json.dumps([said.status, said.lines]).encode())

    key = key_of(tree, overlay, check.options, check.targets)
    file = cache.file_entry("builds", key, make, progress)
    cache.keep_newest("builds", _KEPT_RESULTS)
    with cache.intact(file):
        status, lines = json.loads(file.read_bytes())
    return Said(status, tuple(lines))


def _switched(tree: Path, wanted: Options, progress: Progress) -> Path:
    """A built tree with options switched; it may lack what does not compile with them."""
    now = options(tree, [name for name, _ in wanted])
    changes = tuple((name, on) for name, on in wanted if now.get(name) != on)
    if not changes:
        return tree

    def make(folder: Path) -> None:
        link_tree(tree, folder / "tree", _configured(tree, changes))
        what = f"KVM with {', '.join(shown(*each) for each in changes)}"
        _made(folder / "tree", tree, ["modules"], what, progress, BASE_TIMEOUT_S)

    folder = cache.folder_entry("configured", key_of(tree, {}, changes), make, progress)
    cache.keep_newest("configured", _KEPT_TREES)
    return folder / "tree"


def shown(option: str, on: bool) -> str:
    """An option as a configuration file has it, but for one that is not set: ``CONFIG_KVM_XEN=n``."""
    return f"CONFIG_{option}={'y' if on else 'n'}"


def _configured(tree: Path, changes: Options) -> Overlay:
    config, header = ((tree / path).read_text().splitlines() for path in (_CONFIG, _HEADER))
    for name, on in changes:
        config = [line for line in config if not line.startswith(f"CONFIG_{name}=")]
        header = [line for line in header if line != f"#define CONFIG_{name} 1"]
        if on:
            config.append(f"CONFIG_{name}=y")
            header.append(f"#define CONFIG_{name} 1")
    marks = {f"include/config/{name}": b"" for name, _ in changes}
    return {_CONFIG: _text(config), _HEADER: _text(header), **marks}


def _text(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _made(farm: Path, base: Path, targets: Sequence[str], what: str, progress: Progress, timeout_s: float) -> Said:
    check_tools()
    # All of what is wrong, not only what is found first.
    return outcome(farm, "-k", "M=arch/x86/kvm", *targets, what=what, progress=progress, timeout_s=timeout_s, base=base)


def _object(source: str) -> str:
    folder = next(folder for folder in _FROM_KVM if source.startswith(folder))
    return f"{_FROM_KVM[folder]}{source.removeprefix(folder).removesuffix('.c')}.o"


def _plain(path: str) -> str:
    """``virt/kvm/x.c`` for ``arch/x86/kvm/../../../virt/kvm/x.c``, as builds name it."""
    return re.sub(r"[^/]+/[^/]+/[^/]+/\.\./\.\./\.\./", "", path)
