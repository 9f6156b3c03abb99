"""Which parameters KVM's modules have, found out before they are loaded: the kernel only grumbles at unknown ones.

Source: include/linux/moduleparam.h: every macro of the family takes the parameter's name first, and leaves it in the
module as a symbol.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from kvmharness.errors import UsageError
from kvmharness.lab.inside.modules import module_name
from kvmharness.lab.kernels import build
from kvmharness.lab.kernels.modulefiles import content, load_order
from kvmharness.lab.kernels.source import Source, to_read
from kvmharness.lab.kernels.trees import KVM_FOLDERS
from kvmharness.system.programs import Progress, silent
from kvmharness.vendors.names import NAMES

_MACRO = re.compile(rb"\bmodule_param\w*\s*\(\s*(\w+)")
_SYMBOL = re.compile(rb"\0__param_str_(\w+)(?=\0)")
_VENDOR_FILE = re.compile(rf"arch/x86/kvm/({'|'.join(vendor.name for vendor in NAMES)})\b")
_KVM = "kvm"


def of_source(source: Source, progress: Progress = silent) -> frozenset[str]:
    """The parameters that a kernel's KVM modules have, or will have once they are built.

    Raises:
        ToolError, DiskFullError: the source cannot be unpacked.
    """
    if built := build.at_hand(source):
        return of_modules(built.modules)
    return of_tree(to_read(source, KVM_FOLDERS, progress))


def of_tree(tree: Path) -> frozenset[str]:
    """The parameters that a kernel's source gives KVM's modules, as "kvm.tdp_mmu"."""
    files = (path for folder in KVM_FOLDERS for path in (tree / folder).rglob("*.c"))
    return of_files({str(path.relative_to(tree)): path.read_bytes() for path in files})


def of_files(files: Mapping[str, bytes]) -> frozenset[str]:
    """The same of source files, by their paths in the tree."""
    return frozenset(
        f"{module_of(path)}.{name.decode()}"
        for path, text in files.items()
        if path.startswith(KVM_FOLDERS)
        for name in _MACRO.findall(text)
    )


def of_modules(folder: Path) -> frozenset[str]:
    """The parameters of built modules.

    Raises:
        UsageError: as :func:`kvmharness.lab.kernels.modulefiles.load_order`.
    """
    modules = {module_name(path.name): path for path in load_order(folder)}
    return frozenset(
        f"{module}.{name.decode()}"
        for module, path in modules.items()
        if module.startswith(_KVM)
        for name in _SYMBOL.findall(content(path))
    )


def check(wanted: Iterable[str], known: frozenset[str]) -> None:
    """Refuses parameters that there are not.

    Raises:
        UsageError: naming the first, and all that its module has.
    """
    for name in wanted:
        if name not in known:
            module = name.partition(".")[0]
            own = sorted(each for each in known if each.startswith(f"{module}."))
            raise UsageError(
                f"{name} is no parameter of this kernel's KVM",
                f"{module} has {', '.join(each.partition('.')[2] for each in own)}." if own else f"It has no {module}.",
            )


def module_of(path: str) -> str:
    """The module that a source file's parameters are those of."""
    vendor = _VENDOR_FILE.match(path)
    return next(each.module for each in NAMES if each.name == vendor[1]) if vendor else _KVM
