"""Which Debian package has which program or file: one table for errors, doctor, kernel builds and the scripts.

It is a script too, which needs nothing but Python: ``python3 packages.py GROUP...`` prints the packages of its groups.
"""

import glob
import shutil
import sys
from collections.abc import Iterable

PROGRAMS = {
    "addr2line": "binutils",
    "bc": "bc",
    "bison": "bison",
    "bochs": "bochs",
    "busybox": "busybox-static",
    "ccache": "ccache",
    "dpkg-deb": "dpkg",
    "flex": "flex",
    "gcc": "gcc",
    "insmod": "kmod",
    "ld": "binutils",
    "ldd": "libc-bin",
    "lz4": "lz4",
    "make": "make",
    "modprobe": "kmod",
    "nice": "coreutils",
    "nm": "binutils",
    "qemu-system-x86_64": "qemu-system-x86",
    "rmmod": "kmod",
    "strip": "binutils",
    "tar": "tar",
    "xorriso": "xorriso",
    "xz": "xz-utils",
    "zstd": "zstd",
}
"""Program -> package."""

FILES = {
    "BIOS-bochs-latest": ("bochsbios", "/usr/share/bochs/BIOS-bochs-latest"),
    "VGABIOS": ("vgabios", "/usr/share/bochs/VGABIOS-lgpl-latest", "/usr/share/vgabios/vgabios.bin"),
    "isolinux.bin": ("isolinux", "/usr/lib/ISOLINUX/isolinux.bin", "/usr/share/syslinux/isolinux.bin"),
    "kvm.h": ("linux-libc-dev", "/usr/include/linux/kvm.h"),
    "ldlinux.c32": (
        "syslinux-common",
        "/usr/lib/syslinux/modules/bios/ldlinux.c32",
        "/usr/share/syslinux/ldlinux.c32",
    ),
    "libbx_sdl2_gui.so": (
        "bochs-sdl",
        "/usr/lib/bochs/plugins/libbx_sdl2_gui.so",
        "/usr/lib/*/bochs/plugins/libbx_sdl2_gui.so",
    ),
    "libelf's gelf.h": ("libelf-dev", "/usr/include/gelf.h"),
    "linux-source-6.1.tar.xz": ("linux-source-6.1", "/usr/src/linux-source-6.1.tar.xz"),
    "linux-source-6.12.tar.xz": ("linux-source-6.12", "/usr/src/linux-source-6.12.tar.xz"),
    "stdio.h": ("libc6-dev", "/usr/include/stdio.h"),
}
"""File -> package, then where it may be, the first place where there is one counts."""

BOCHS = (
    *("bochs", "BIOS-bochs-latest", "VGABIOS", "libbx_sdl2_gui.so", "isolinux.bin", "ldlinux.c32", "xorriso"),
    *("busybox", "lz4", "strip"),
)
QEMU = ("qemu-system-x86_64", "busybox", "lz4", "strip")
KERNEL_TOOLS = ("make", "gcc", "stdio.h", "ld", "flex", "bison", "bc", "lz4", "tar", "xz", "libelf's gelf.h")
"""To build a kernel whose source is given."""
KERNEL_BUILD = (*KERNEL_TOOLS, "linux-source-6.1.tar.xz")

GROUPS = {
    "headers": ("gcc", "stdio.h", "kvm.h"),  # compiling against the kernel's own declarations
    "lab": (*BOCHS, *QEMU, *KERNEL_BUILD, "ccache", "modprobe"),  # the emulated hosts and their kernel
    "nightly": ("linux-source-6.12.tar.xz",),  # kernels that tests run on now and then
}
"""What the scripts ask for."""

_SYSTEM_PATH = "/usr/sbin:/sbin"  # not in everybody's PATH, and not in that of root after a plain `su`


def package_of(name: str) -> str:
    """The package that has a program or file; its own name where the table does not know it."""
    return FILES[name][0] if name in FILES else PROGRAMS.get(name, name)


def place(name: str) -> str | None:
    """The path of a file of the table, or of a program; None if it is not there."""
    if name in FILES:
        return next((path for pattern in FILES[name][1:] for path in glob.glob(pattern)), None)
    return shutil.which(name) or shutil.which(name, path=_SYSTEM_PATH)


def missing(*groups: Iterable[str]) -> dict[str, str]:
    """What of *groups* this machine lacks: program or file -> package."""
    return {name: package_of(name) for group in groups for name in group if place(name) is None}


def install_command(packages: Iterable[str]) -> str:
    """The command that installs *packages*, each once and in their order."""
    return f"sudo apt-get install {' '.join(dict.fromkeys(packages))}"


if __name__ == "__main__":
    print(*dict.fromkeys(package_of(name) for group in sys.argv[1:] for name in GROUPS[group]))
