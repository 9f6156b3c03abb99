"""Kernels for the emulated host, and variants of KVM's modules, each built once and found again by hash.

A kernel is built in a private copy of its source. A variant is a second set of KVM modules for the same kernel: a
tree of symbolic links to the built one in which only the changed files, and KVM's own folders with their objects, are
real. So a variant compiles what changed and its users, and the built tree stays as it was.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from kvmharness.errors import UsageError
from kvmharness.lab.inside.modules import module_name
from kvmharness.lab.kernels import builtin, config
from kvmharness.lab.kernels.config import MINIMAL, Recipe
from kvmharness.lab.kernels.make import check_tools, make
from kvmharness.lab.kernels.modulefiles import content, load_order
from kvmharness.lab.kernels.source import Source, debian
from kvmharness.lab.kernels.traceable import TRACEABLE
from kvmharness.lab.kernels.trees import KVM_FOLDERS, Overlay, link_tree, write_overlay
from kvmharness.system import cache
from kvmharness.system.programs import Progress, find, run, silent
from kvmharness.system.reading import KERNEL, opened

KERNEL_TIMEOUT_S = 3600.0
VARIANT_TIMEOUT_S = 600.0
# Changes when the recipe below does, so that nothing older is taken for its result.
_RECIPE = 2
_KEPT_KERNELS = 8
_KEPT_VARIANTS = 64

VMLINUX = "vmlinux"
"""Beside the image of a traceable kernel: that kernel with its symbols."""
SYMBOLS = ".debug"
"""Behind a module's name: the same module with its debug information."""
SOURCES = "sources"
"""Beside a variant's modules with debug information: the files in which its source differs."""

# What KVM's modules depend on, where that is made of modules too.
_BELOW = ("virt/lib/irqbypass.ko", "drivers/crypto/ccp/ccp.ko")
# What a build of modules reads of a built tree, besides its sources.
_TREE_STATE = (".config", "Module.symvers", "include/config/kernel.release")
# Of a built tree, what neither a variant nor a selftest needs.
_SPENT = """
    block certs crypto drivers fs init io_uring ipc kernel lib mm net rust samples security sound
    arch/x86/kernel arch/x86/mm arch/x86/boot/compressed vmlinux vmlinux.o vmlinux.a
    .tmp_vmlinux.kallsyms1 .tmp_vmlinux.kallsyms2
"""


class ChangesVmlinuxError(UsageError):
    """A variant takes a vmlinux of its own: with new modules alone it would not do.

    Attributes:
        why: in words.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} is more than KVM's modules: {why}", "Build a whole kernel for it.")
        self.why = why


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that the emulated host can boot.

    Attributes:
        image: the bzImage.
        modules: a folder with KVM's modules and what they depend on.
        config_hash: of the ``.config``; empty if unknown.
        source: where it came from, in words.
        tree: the built tree that variants start from; None for a kernel that was given as it is.
        command_line: what it is to be booted with besides.
        of_variant: it is one variant of a series, and no other job will boot it.
    """

    image: Path
    modules: Path
    config_hash: str = ""
    source: str = ""
    tree: Path | None = None
    command_line: str = ""
    of_variant: bool = False

    @property
    def release(self) -> str:
        """The kernel release, from the image's own header.

        Source: Documentation/x86/boot.rst, "Details of Header Fields", kernel_version, setup_sects, syssize.

        Raises:
            UsageError: it is no bzImage, or a part of one.
        """
        with opened(self.image, KERNEL) as file:
            header, size = file.read(0x8000), os.fstat(file.fileno()).st_size
        if header[0x202:0x206] != b"HdrS":
            raise UsageError(f"{self.image} is not a bzImage")
        if size < (header[0x1F1] + 1) * 512 + int.from_bytes(header[0x1F4:0x1F8], "little") * 16:
            raise UsageError(
                f"{self.image} is cut off: its header tells of more than it has", "Copy or build it again."
            )
        start = int.from_bytes(header[0x20E:0x210], "little") + 0x200
        return header[start:].partition(b"\0")[0].decode(errors="replace").partition(" ")[0]


def kernel(
    source: Source | None = None,
    *,
    overlay: Overlay | None = None,
    recipe: Recipe = MINIMAL,
    progress: Progress = silent,
) -> Kernel:
    """The kernel of *source* (Debian's package if None), built if it is not cached.

    Args:
        overlay: files that replace the source's own, by relative path (None removes one): a whole kernel as a variant.
        recipe: how it is configured and built.
        progress: takes a line about once a second while it builds.

    Raises:
        MissingToolError, KernelBuildError, OptionLostError, DiskFullError.
    """
    source = source or debian()
    overlay = overlay or {}

    def build(folder: Path) -> None:
        check_tools()
        tree = folder / "tree"
        tree.mkdir()
        progress(f"unpacking {source.name}")
        source.unpack(tree)
        write_overlay(tree, overlay)
        _build_kernel(tree, recipe, f"{recipe.name or 'kernel'} of {source.name}", progress)
        (folder / "config").write_bytes((tree / ".config").read_bytes())
        shutil.copy2(tree / "arch/x86/boot/bzImage", folder / "bzImage")
        _collect_modules(tree, tree, folder / "modules")
        if recipe is TRACEABLE:
            shutil.copy2(tree / "vmlinux", folder / VMLINUX)
        builtin.keep(tree, folder / builtin.FOLDER)
        _remove_spent(tree)

    folder = cache.folder_entry("kernels", _key(source, overlay, recipe), build, progress)
    cache.keep_newest("kernels", _KEPT_KERNELS)
    return replace(_kernel(source, folder, recipe), of_variant=bool(overlay))


def at_hand(source: Source) -> Kernel | None:
    """What :func:`kernel` would give, if it were there at once."""
    folder = cache.found("kernels", _key(source, {}, MINIMAL))
    return _kernel(source, folder, MINIMAL) if folder else None


def _key(source: Source, overlay: Overlay, recipe: Recipe) -> str:
    return cache.digest(_RECIPE, source.identity(), *recipe.identity(), _compiler(), *_overlay_facts(overlay))


def _kernel(source: Source, folder: Path, recipe: Recipe) -> Kernel:
    with cache.intact(folder):
        kernel = Kernel(
            image=folder / "bzImage",
            modules=folder / "modules",
            config_hash=cache.digest((folder / "config").read_bytes()),
            source=source.name,
            tree=folder / "tree",
            command_line=" ".join(recipe.boot_words),
        )
        if not kernel.release:
            raise UsageError("its bzImage does not say which kernel it is")
    return kernel


def given(image: Path, modules: Path) -> Kernel:
    """A kernel that exists already: a bzImage and the folder of its modules (``/lib/modules/RELEASE`` will do).

    Raises:
        UsageError: the image is none, or the folder lacks KVM's modules.
    """
    for path, kind in ((image, "file"), (modules, "folder")):
        if not path.exists():
            raise UsageError(f"no such {kind}: {path}")
    kernel = Kernel(image.resolve(), modules.resolve(), source=str(image))
    load_order(kernel.modules)
    if not kernel.release:
        raise UsageError(f"{image} does not say which kernel it is")
    return kernel


def variant(tree: Path, overlay: Overlay, *, name: str = "variant", progress: Progress = silent) -> Path:
    """KVM's modules for the built kernel *tree*, with the files of *overlay* in place of its own; cached.

    Args:
        tree: :attr:`Kernel.tree`, or another built tree; it is not written to.
        overlay: content by path relative to the tree; None removes a file.
        name: how to call it in messages.

    Returns:
        A folder with kvm.ko, kvm-intel.ko, kvm-amd.ko and what they depend on.

    Raises:
        ChangesVmlinuxError: the overlay changes what is built into the kernel: that takes ``kernel(overlay=...)``.
        KernelBuildError, MissingToolError, DiskFullError.
    """
    if why := builtin.changes(tree, overlay):
        raise ChangesVmlinuxError(name, why)
    if _is_cached(tree) and not overlay:
        return tree.parent / "modules"
    key = key_of(tree, overlay)

    def build(folder: Path) -> None:
        check_tools()
        farm = folder / "tree"
        link_tree(tree, farm, overlay)
        make(farm, "M=arch/x86/kvm", "modules", what=name, progress=progress, timeout_s=VARIANT_TIMEOUT_S, base=tree)
        if _collect_modules(farm, tree, folder):
            (folder / SOURCES).mkdir()
            write_overlay(folder / SOURCES, overlay)
        shutil.rmtree(farm)

    folder = cache.folder_entry("variants", key, build, progress)
    cache.keep_newest("variants", _KEPT_VARIANTS)
    return folder


def key_of(tree: Path, overlay: Overlay, *more: object) -> str:
    """What names modules made in a built tree with an overlay on it: another one when they may come out otherwise."""
    base = tree.parent.name if _is_cached(tree) else _tree_facts(tree)
    return cache.digest(_RECIPE, base, *_overlay_facts(overlay), *more)


def modules_id(folder: Path) -> str:
    """A short name for the code of a set of modules: equal only if the modules are."""
    return cache.digest(*((module_name(path.name), cache.digest(content(path))) for path in load_order(folder)))


def _is_cached(tree: Path) -> bool:
    return tree.parent.parent == cache.root() / "kernels"


def _tree_facts(tree: Path) -> list[object]:
    """What modules built in *tree* come from, as far as somebody works on it: unlike a cached one, it changes."""
    inside = (path for folder in KVM_FOLDERS for path in (tree / folder).rglob("*"))
    files = [path for path in (*inside, *(tree / name for name in _TREE_STATE)) if path.is_file()]
    stats = ((str(path.relative_to(tree)), path.stat()) for path in sorted(files))
    return [str(tree.resolve()), _compiler(), *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)]


def _overlay_facts(overlay: Overlay) -> list[object]:
    return [(path, None if data is None else cache.digest(data)) for path, data in sorted(overlay.items())]


def _compiler() -> str:
    said = subprocess.run([find("gcc"), "--version"], capture_output=True, text=True, check=False)
    return said.stdout.partition("\n")[0]


def _build_kernel(tree: Path, recipe: Recipe, what: str, progress: Progress) -> None:
    def step(*targets: str) -> None:
        make(tree, *targets, what=what, progress=progress, timeout_s=KERNEL_TIMEOUT_S)

    step("tinyconfig")
    with (tree / ".config").open("a") as file:
        file.write("\n".join(["", *recipe.wanted(), *recipe.known(), ""]))
    step("olddefconfig")
    config.check((tree / ".config").read_text(), recipe.wanted())
    if recipe.image_words:
        step(*recipe.image_words, "bzImage")
        step("modules")
    else:
        step("bzImage", "modules")


def _collect_modules(tree: Path, base: Path, target: Path) -> bool:
    """Copy KVM's modules of *tree*, and what else they depend on from *base*, into *target*.

    What has debug information is kept with it as :data:`SYMBOLS`, and loaded without: that is a tenth as large.

    Returns:
        Whether they have debug information.
    """
    target.mkdir(exist_ok=True)
    debug_info = "CONFIG_DEBUG_INFO=y\n" in (tree / ".config").read_text()
    for path in (tree / "arch/x86/kvm").glob("*.ko"):
        if debug_info:
            shutil.copy2(path, target / f"{path.name}{SYMBOLS}")
            run(["strip", "--strip-debug", "-o", str(target / path.name), str(path)])
        else:
            shutil.copy2(path, target)
    for name in _BELOW:
        if (base / name).exists():  # else it is built in, or load_order says that it is missing
            shutil.copy2(base / name, target)
    load_order(target)
    return debug_info


def _remove_spent(tree: Path) -> None:
    """Make a built tree a fifth of its size; headers, scripts, tools and KVM itself stay."""
    remove: Callable[[Path], None]
    for name in _SPENT.split():
        path = tree / name
        remove = shutil.rmtree if path.is_dir() else Path.unlink
        with contextlib.suppress(FileNotFoundError):
            remove(path)
