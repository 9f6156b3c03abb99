"""How much memory the kernel holds for itself: what a module that was unloaded has left behind is part of it."""

import os
import time

# Pages whose number follows what processes do, of /proc/meminfo; and what the kernel gives back when asked to.
_OTHERS = ("MemFree", "Buffers", "Cached", "AnonPages", "PageTables", "KernelStack", "Slab")
LOGGED = "drop_caches: 3"  # what the kernel says of it, which tells nothing of the kernel under test
_SETTLES_S = 0.3  # of the host's own time: what is freed by RCU, or by a thread that is ending


def kernel_memory(root: str = "") -> dict[str, int]:
    """Bytes that the kernel cannot give back, after everything that it can was taken from it.

    Args:
        root: of the file system that holds /proc and /sys.

    Returns:
        "pages": in pages of their own; and by the name of each slab cache that is not reclaimable, in its objects.
        Nothing where the kernel does not tell.

    Source: Documentation/filesystems/proc.rst, "meminfo", "slabinfo"; Documentation/admin-guide/sysctl/vm.rst;
    Documentation/ABI/testing/sysfs-kernel-slab.
    """
    try:
        _settle(root)
        with open(f"{root}/proc/meminfo") as file:
            meminfo = {key: int(value.split()[0]) for key, _, value in (line.partition(":") for line in file)}
        with open(f"{root}/proc/zoneinfo") as file:
            # Pages that a CPU keeps for itself are free, too.
            kept = sum(int(line.split()[1]) for line in file if line.lstrip().startswith("count:"))
        used = (meminfo["MemTotal"] - sum(meminfo[name] for name in _OTHERS)) * 1024 - kept * os.sysconf("SC_PAGE_SIZE")
        return {"pages": used, **_slabs(root)}
    except (OSError, KeyError, ValueError):
        return {}


def _settle(root: str) -> None:
    time.sleep(_SETTLES_S)
    _write(f"{root}/proc/sys/vm/drop_caches", b"3")
    with os.scandir(f"{root}/sys/kernel/slab") as entries:
        caches = [entry.path for entry in entries if not entry.is_symlink()]  # one more name of another cache
    for path in caches:
        _write(f"{path}/shrink", b"1")  # else objects that a CPU keeps ready look used
    _write(f"{root}/proc/sys/vm/compact_memory", b"1")
    _write(f"{root}/proc/sys/vm/stat_refresh", b"1")  # else some hundred pages stand in each CPU's own counts


def _slabs(root: str) -> dict[str, int]:
    found = {}
    with open(f"{root}/proc/slabinfo") as file:
        for name, active, _, size, *_ in (line.split() for line in file if not line.startswith(("slabinfo", "#"))):
            if not _reclaimable(root, name):
                found[name] = int(active) * int(size)
    return found


# Files of /sys are read and written as they are: to open them as text costs several times as much in an emulator, and
# there are two of each cache.
def _reclaimable(root: str, name: str) -> bool:
    try:
        number = os.open(f"{root}/sys/kernel/slab/{name}/reclaim_account", os.O_RDONLY)
    except FileNotFoundError:  # its folder goes before the cache itself
        return False
    try:
        return os.read(number, 8).strip() == b"1"
    finally:
        os.close(number)


def _write(path: str, text: bytes) -> None:
    try:
        number = os.open(path, os.O_WRONLY)
    except FileNotFoundError:  # the folder of a module's cache may be going away
        return
    try:
        os.write(number, text)
    finally:
        os.close(number)
