"""In which order kernel modules load: read from the modules themselves, so that any folder of them will do."""

import re
from pathlib import Path

from kvmharness.errors import UsageError

# Modules that KVM can do without although its file names them: nothing here.
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")
WANTED = ("kvm", "kvm_intel", "kvm_amd")


def load_order(folder: Path) -> list[Path]:
    """The files of KVM's modules below *folder* and of what they depend on, dependencies first.

    Works for a build's own output, for a folder with just these files and for a package's ``/lib/modules/RELEASE``.

    Raises:
        UsageError: kvm.ko or both vendors' modules are missing, or something that they depend on is.
    """
    files = {path.name.removesuffix(".ko").replace("-", "_"): path for path in sorted(folder.rglob("*.ko"))}
    vendors = [name for name in WANTED if name != "kvm" and name in files]
    if "kvm" not in files or not vendors:
        raise UsageError(
            f"{folder} holds no uncompressed kvm.ko with kvm-intel.ko or kvm-amd.ko",
            "give the folder of a built kernel's modules; decompress .ko.xz or .ko.zst first",
        )
    order: list[Path] = []
    for name in ("kvm", *vendors):
        _visit(name, files, order, folder)
    return order


def depends(module: Path) -> list[str]:
    """The modules that *module* needs, as its .modinfo section says."""
    found = _DEPENDS.search(module.read_bytes())
    return [name.decode().replace("-", "_") for name in found[1].split(b",") if name] if found else []


def _visit(name: str, files: dict[str, Path], order: list[Path], folder: Path) -> None:
    path = files.get(name)
    if path is None:
        raise UsageError(f"{folder} holds no {name}.ko, which other modules there depend on")
    if path in order:
        return
    for other in depends(path):
        _visit(other, files, order, folder)
    order.append(path)
