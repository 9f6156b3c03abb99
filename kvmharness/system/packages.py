"""Which programs and files the emulated hosts take, and which Debian packages have them."""

import os
import shutil
from collections.abc import Iterable

# Program or file -> Debian packages. A file is looked for where Debian puts it.
BOCHS = {
    "bochs": "bochs bochs-sdl bochsbios vgabios",
    "/usr/share/bochs/BIOS-bochs-latest": "bochsbios",
    "/usr/lib/ISOLINUX/isolinux.bin": "isolinux",
    "/usr/lib/syslinux/modules/bios/ldlinux.c32": "syslinux-common",
    "xorriso": "xorriso",
    "busybox": "busybox-static",
}
QEMU = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static"}
KERNEL_BUILD = {
    "gcc": "gcc",
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "lz4": "lz4",
    "/usr/include/libelf.h": "libelf-dev",
    "/usr/include/openssl/opensslv.h": "libssl-dev",
    "/usr/src/linux-source-6.1.tar.xz": "linux-source-6.1",
}


def missing(*groups: dict[str, str]) -> dict[str, str]:
    """What of *groups* this machine lacks: program or file -> packages."""
    return {name: package for group in groups for name, package in group.items() if not _is_there(name)}


def install_command(packages: Iterable[str]) -> str:
    """The command that installs *packages*, each once and in their order."""
    words = dict.fromkeys(word for package in packages for word in package.split())
    return f"sudo apt-get install {' '.join(words)}"


def _is_there(name: str) -> bool:
    return os.path.exists(name) if name.startswith("/") else shutil.which(name) is not None
