"""The kernel that runs on this machine, with its built tree, so that variants of KVM can be built for it."""

import os
from pathlib import Path

from kvmharness.errors import UsageError
from kvmharness.hosts.catalogue import first
from kvmharness.lab.kernels.build import Kernel
from kvmharness.system import cache

_NEEDED = (
    "Makefile",
    ".config",
    "Module.symvers",
    "scripts/mod/modpost",
    "arch/x86/kvm/Makefile",
    "virt/kvm/kvm_main.c",
)


def running_kernel(tree: Path) -> Kernel:
    """The running kernel as something to build variants for.

    Args:
        tree: where it was built; only read.

    Raises:
        UsageError: the tree is not built, or is that of another kernel.
    """
    missing = [name for name in _NEEDED if not (tree / name).exists()]
    if missing:
        raise UsageError(
            f"{tree} is not a built kernel tree: it has no {missing[0]}",
            "Name the tree that the running kernel was built in; modules must match it.",
        )
    release = _read(tree / "include/config/kernel.release")
    here = os.uname().release
    if release != here:
        raise UsageError(
            f"{tree} is kernel {release or 'unknown'}, this machine runs {here}",
            f"Boot the kernel that was built there, or use an emulated host: --host {first().spec}.",
        )
    return Kernel(
        image=tree / "arch/x86/boot/bzImage",
        modules=tree / "arch/x86/kvm",
        config_hash=cache.digest((tree / ".config").read_bytes()),
        source=f"running kernel {release}",
        tree=tree,
    )


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
