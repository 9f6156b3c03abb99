"""Kernel modules outside the emulated host: found in any folder, unpacked, in the order in which they load."""

import re
from collections.abc import Callable
from pathlib import Path

from kvmharness.errors import UsageError
from kvmharness.lab.inside.modules import module_name
from kvmharness.system.reading import MODULE, fault, read
from kvmharness.system.unpacking import gunzip, unxz, unzstd
from kvmharness.vendors.names import NAMES

_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")
_ELF, _HEADER_BYTES = b"\x7fELF", 64
_VENDORS = tuple(vendor.module for vendor in NAMES)


_CONTENT: dict[str, Callable[[Path], bytes]] = {
    ".ko": lambda path: read(path, MODULE),
    ".ko.gz": lambda path: gunzip(str(path), read(path, MODULE), MODULE),
    ".ko.xz": lambda path: unxz(str(path), read(path, MODULE), MODULE),
    ".ko.zst": lambda path: unzstd(path, MODULE),
}


def load_order(folder: Path) -> list[Path]:
    """The files of KVM's modules below *folder* and of what they depend on, dependencies first.

    Works for a build's own output, for a folder with just these files and for a package's ``/lib/modules/RELEASE``.

    Raises:
        UsageError: kvm.ko or both vendors' modules are missing, or something that they depend on is.
    """
    paths = sorted(path for path in folder.rglob("*.ko*") if _suffix(path) in _CONTENT)
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
    """A module as the kernel takes it, unpacked if its file is compressed.

    Raises:
        ReadError: it cannot be, or lacks its end, where an ELF file has the table of its sections.
    """
    data = _CONTENT[_suffix(module)](module)
    if not data:
        raise fault(str(module), MODULE, "it is empty")
    if data.startswith(_ELF) and len(data) < _sections_end(data):
        raise fault(str(module), MODULE, "it is cut off")
    return data


def _sections_end(data: bytes) -> int:
    """Source: Elf64_Ehdr in elf.h."""
    if len(data) < _HEADER_BYTES:
        return _HEADER_BYTES
    start, each, count = (int.from_bytes(data[at : at + size], "little") for at, size in ((40, 8), (58, 2), (60, 2)))
    return start + each * count


def depends(module: Path) -> list[str]:
    """The modules that *module* needs, as its .modinfo section says."""
    found = _DEPENDS.search(content(module))
    return [name.decode("utf-8", "replace").replace("-", "_") for name in found[1].split(b",") if name] if found else []


def _suffix(path: Path) -> str:
    return path.name[path.name.find(".") :]


def _visit(name: str, files: dict[str, Path], order: list[Path], folder: Path, above: tuple[str, ...] = ()) -> None:
    path = files.get(name)
    if path is None:
        raise UsageError(f"{folder} holds no {name}.ko, which other modules there depend on")
    if path in order:
        return
    if name in above:
        raise UsageError(f"{path}: the module depends on itself: {' -> '.join((*above, name))}")
    for other in depends(path):
        _visit(other, files, order, folder, (*above, name))
    order.append(path)
