"""Kernel modules outside the emulated host: found in any folder, unpacked, in the order in which they load."""

import gzip
import lzma
import re
from collections.abc import Callable
from pathlib import Path

from kvmharness.errors import UsageError
from kvmharness.lab.inside.modules import module_name
from kvmharness.system.programs import run
from kvmharness.vendors.names import NAMES

_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")
_VENDORS = tuple(vendor.module for vendor in NAMES)


def _zstd(data: bytes) -> bytes:
    return run(["zstd", "-d", "-c"], stdin=data)


_UNPACK: dict[str, Callable[[bytes], bytes]] = {
    ".ko": bytes,
    ".ko.gz": gzip.decompress,
    ".ko.xz": lzma.decompress,
    ".ko.zst": _zstd,
}


def load_order(folder: Path) -> list[Path]:
    """The files of KVM's modules below *folder* and of what they depend on, dependencies first.

    Works for a build's own output, for a folder with just these files and for a package's ``/lib/modules/RELEASE``.

    Raises:
        UsageError: kvm.ko or both vendors' modules are missing, or something that they depend on is.
    """
    paths = sorted(path for path in folder.rglob("*.ko*") if _suffix(path) in _UNPACK)
    files = {module_name(path.name): path for path in paths}
    vendors = [name for name in _VENDORS if name in files]
    if "kvm" not in files or not vendors:
        either = " or ".join(f"{name.replace('_', '-')}.ko" for name in _VENDORS)
        raise UsageError(f"{folder} holds no kvm.ko with {either}", "give the folder of a built kernel's modules")
    order: list[Path] = []
    for name in ("kvm", *vendors):
        _visit(name, files, order, folder)
    return order


def content(module: Path) -> bytes:
    """A module as the kernel takes it, unpacked if its file is compressed."""
    return _UNPACK[_suffix(module)](module.read_bytes())


def depends(module: Path) -> list[str]:
    """The modules that *module* needs, as its .modinfo section says."""
    found = _DEPENDS.search(content(module))
    return [name.decode().replace("-", "_") for name in found[1].split(b",") if name] if found else []


def _suffix(path: Path) -> str:
    return path.name[path.name.find(".") :]


def _visit(name: str, files: dict[str, Path], order: list[Path], folder: Path) -> None:
    path = files.get(name)
    if path is None:
        raise UsageError(f"{folder} holds no {name}.ko, which other modules there depend on")
    if path in order:
        return
    for other in depends(path):
        _visit(other, files, order, folder)
    order.append(path)
