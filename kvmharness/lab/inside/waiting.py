"""An agent that waits for its job: its host is saved while it waits, and goes on from there as often as it is restored.

Everything is imported by then. The host is saved by the emulator, at an instruction of the guest: an OUT to a port. Its
job stands in memory that the kernel was told to leave alone (``memmap=SIZE$ADDRESS``), which nobody has written to
before the host is saved, and the emulator's caller afterwards.
"""

import gc
import json
import mmap
import os
import time
import warnings
from importlib import import_module
from stat import S_ISDIR, S_ISLNK

from kvmharness.lab.inside.port import Port

WAITING_PATH = "/job/waiting.json"
"""What such an agent finds in the place of a job: :data:`Waiting` as JSON."""

MEMORY_PATH = "/dev/mem"
MAGIC = b"KVMHJOB\n"
"""What a job in memory begins with; then its size in 8 bytes, little endian; then the archive that an image would
hold."""

# The kernel takes some seconds to choose its clock for good.
_SETTLE_S = 2.0
# An emulator may keep only those pieces of its memory that were ever read.
_STRIDE = 1 << 16
_HEADER_BYTES = len(MAGIC) + 8


def wait(port: Port) -> None:
    """Has the host saved, and unpacks the job of the one that is restored.

    Raises:
        OSError: the memory cannot be had, or holds no job.
    """
    with open(WAITING_PATH, "rb") as file:
        told = json.loads(file.read())
    for name in told["modules"]:
        import_module(name)
    import_what_can_be(told["imports"])
    gc.collect()
    gc.freeze()  # what no job makes into garbage need not be looked through in each
    device = os.open(MEMORY_PATH, os.O_RDONLY)
    memory = mmap.mmap(device, told["size"], prot=mmap.PROT_READ, offset=told["address"])
    os.close(device)
    for offset in range(0, len(memory), _STRIDE):
        memory[offset]
    time.sleep(_SETTLE_S)
    port.out(told["port"], told["byte"])
    if memory[: len(MAGIC)] != MAGIC:
        raise OSError("the memory of a restored host holds no job")
    size = int.from_bytes(memory[len(MAGIC) : _HEADER_BYTES], "little")
    unpack(memoryview(memory)[_HEADER_BYTES : _HEADER_BYTES + size])


def import_what_can_be(names: list[str]) -> None:
    """Imports modules as if nobody had: one that fails or warns is not loaded, so that the job hears of it."""
    if not names:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in names:
            try:
                import_module(name)
            except Exception:
                continue


def unpack(archive: memoryview, root: str = "/") -> None:
    """Does with an archive what the kernel does with an initramfs; only files, folders and links.

    Args:
        archive: of format "newc", see :mod:`kvmharness.lab.image.cpio`.
        root: where its paths begin.
    """
    at = 0
    while True:
        fields = [int(archive[at + start : at + start + 8].tobytes(), 16) for start in range(6, 110, 8)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 109 + name_size].tobytes().decode()
        data_at = at + (110 + name_size + 3 & ~3)
        data = archive[data_at : data_at + size]
        at = data_at + (size + 3 & ~3)
        if name == "TRAILER!!!":
            return
        path = os.path.join(root, name)
        if S_ISDIR(mode):
            os.makedirs(path, exist_ok=True)
            continue
        if os.path.lexists(path):
            os.unlink(path)  # not written over: it may be a program that is running
        if S_ISLNK(mode):
            os.symlink(data.tobytes(), path)
        else:
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode & 0o777)
            while data:
                data = data[os.write(number, data) :]
            os.close(number)
