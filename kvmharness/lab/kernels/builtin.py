"""What is built into the kernel, and from what: whether a change makes another vmlinux is tried, not guessed.

Headers of KVM are shared with vmlinux: in Linux 6.1 ``kernel/entry/kvm.c`` writes into ``struct kvm_vcpu``. With other
modules alone such a kernel would corrupt itself. So the objects that depend on what changed are compiled again, by the
commands that made them, and compared byte by byte.

Source: Documentation/kbuild/reproducible-builds.rst; the ``.cmd`` files that scripts/Kbuild.include writes.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kvmharness.lab.kernels.make import enclosed
from kvmharness.lab.kernels.trees import KVM_FOLDERS, Overlay, link_tree
from kvmharness.system import cache
from kvmharness.system.files import write_whole
from kvmharness.system.programs import disk_errors
from kvmharness.system.scratch import temporary_folder

FOLDER = "builtin"
"""Beside a built tree in the cache: what of its objects is kept."""

_INDEX = "index.json"
_COMPILE_S = 300.0

# Headers that patches of KVM change. Of what depends on them everything is kept that compiling it again takes.
_KVM_HEADER = re.compile(r"(include|arch/x86/include)/.*kvm.*\.h")
# Their output becomes headers that everything includes.
_GENERATORS = ("arch/x86/kernel/asm-offsets.s", "kernel/bounds.s")
# Neither compiled into the kernel nor into KVM's modules.
_BESIDE = re.compile(r"(Documentation|tools|samples|LICENSES)/|MAINTAINERS$|.*\.rst$")


@dataclass(frozen=True, slots=True)
class _Object:
    """One object that is built in.

    Attributes:
        target: its path in the tree.
        command: the shell command that made it, to be run at the top of the tree.
        inputs: every file that it was made from, by path in the tree.
    """

    target: str
    command: str
    inputs: frozenset[str]


def keep(tree: Path, folder: Path) -> None:
    """Keeps what :func:`changes` needs of a tree that has just been built, before it is made smaller.

    Args:
        tree: with all its objects and ``.cmd`` files.
        folder: to make.
    """
    objects = list(_objects(tree))
    kept = [each for each in objects if _is_shared(each)]
    with disk_errors(folder):
        folder.mkdir()
        for each in kept:
            for path in (each.target, *each.inputs):
                _copy(tree, folder / "files", path)
        index = {
            "inputs": sorted({path for each in objects for path in each.inputs}),
            "objects": [[each.target, each.command, sorted(each.inputs)] for each in kept],
        }
        write_whole(folder / _INDEX, json.dumps(index).encode())


def changes(tree: Path, overlay: Overlay) -> str:
    """Why a kernel with these files in place of its own is another kernel; empty when only KVM's modules are others.

    Args:
        tree: a built tree, of the cache or somebody's own. It is not written to.
        overlay: content by path; None removes a file.
    """
    outside = [path for path in overlay if not path.startswith(KVM_FOLDERS) and not _BESIDE.match(path)]
    if not outside:
        return ""
    folder = tree.parent / FOLDER
    if (folder / _INDEX).is_file():
        inputs, objects = _kept(folder)
        originals = folder / "files"
    else:
        found = list(_objects(tree))
        inputs, objects = frozenset(path for each in found for path in each.inputs), [o for o in found if _is_shared(o)]
        originals = tree
    if not inputs:
        return f"{outside[0]} is changed, and nothing in {tree} says what its kernel was built from"
    for path in outside:
        if not path.endswith((".c", ".h", ".S")):
            return f"{path} decides how the kernel is built"
        if path in inputs and not _KVM_HEADER.fullmatch(path):
            return f"{path} is compiled into the kernel itself"
    affected = [each for each in objects if not each.inputs.isdisjoint(outside)]
    return _compiled_anew(tree, overlay, affected, originals) if affected else ""


def module_inputs(tree: Path) -> frozenset[str]:
    """The headers outside of KVM's own folders, but for generated ones, that a built tree's KVM modules include."""
    found: set[str] = set()
    for folder in KVM_FOLDERS:
        for path in (tree / folder).rglob(".*.o.cmd"):
            found |= _words(path.read_text(errors="replace"), "deps")
    return frozenset(
        path for path in found if path.endswith(".h") and "generated/" not in path and not path.startswith(KVM_FOLDERS)
    )


def _compiled_anew(tree: Path, overlay: Overlay, objects: list[_Object], originals: Path) -> str:
    with temporary_folder("builtin") as folder:
        farm = folder / "tree"
        # What a tree of the cache has lost is put back; the objects' own folders are real, to be written to.
        own: dict[str, bytes | None] = {
            path: (originals / path).read_bytes()
            for each in objects
            for path in each.inputs
            if not (tree / path).exists() and (originals / path).exists()
        }
        own |= {each.target: None for each in objects}
        link_tree(tree, farm, {**own, **overlay}, own=())
        for each in objects:
            (farm / each.target).parent.mkdir(parents=True, exist_ok=True)
            command = [*enclosed(farm, tree), "/bin/sh", "-c", each.command]
            done = subprocess.run(command, cwd=farm, capture_output=True, check=False, timeout=_COMPILE_S)
            if done.returncode:
                return f"{each.target}, which is built into the kernel, does not compile with it"
            if (farm / each.target).read_bytes() != (originals / each.target).read_bytes():
                return f"{each.target}, which is built into the kernel, is another one with it"
    return ""


def _is_shared(each: _Object) -> bool:
    return each.target in _GENERATORS or any(map(_KVM_HEADER.fullmatch, each.inputs))


def _objects(tree: Path) -> Iterator[_Object]:
    """What was compiled outside of KVM's own folders, as the build's command files tell."""
    for path in sorted(tree.rglob(".*.cmd")):
        target = str((path.parent / path.name[1:].removesuffix(".cmd")).relative_to(tree))
        if target.startswith((*KVM_FOLDERS, "scripts/", "tools/", "usr/")):
            continue
        if target.endswith(".o") or target in _GENERATORS:
            text = path.read_text(errors="replace")
            command = re.search(r"^(?:saved)?cmd_\S+ := (.*)$", text, re.M)
            source = _words(text, "source")
            if command and source:
                yield _Object(target, command[1].replace("$(pound)", "#"), source | _words(text, "deps"))


def _words(text: str, name: str) -> frozenset[str]:
    """The paths within the tree that a variable of a command file holds."""
    found = re.search(rf"^{name}_\S+ := (.*)$", text.replace("\\\n", " "), re.M)
    return (
        frozenset(word for word in found[1].split() if "$(" not in word and word[0] not in "/)")
        if found
        else frozenset()
    )


def _kept(folder: Path) -> tuple[frozenset[str], list[_Object]]:
    with cache.intact(folder.parent):
        index = json.loads((folder / _INDEX).read_bytes())
        return frozenset(index["inputs"]), [
            _Object(target, command, frozenset(own)) for target, command, own in index["objects"]
        ]


def _copy(tree: Path, target: Path, path: str) -> None:
    place = target / path
    if not place.exists() and (tree / path).is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((tree / path).read_bytes())
