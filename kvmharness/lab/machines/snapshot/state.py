"""A saved host as files: hashed when it is kept, held against the hashes and given its job whenever it is restored."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from kvmharness.errors import KvmHarnessError
from kvmharness.lab.inside.waiting import MAGIC
from kvmharness.system.programs import disk_errors

STATE = "state"
"""The folder of a saved host's files, in that of the emulator."""

JOB_ADDRESS = 0x0800_0000
JOB_BYTES = 48 << 20
"""Where a restored host finds its job: guest-physical memory that its kernel leaves alone."""

_HASHES = "hashes.json"
_CHUNK_BYTES = 1 << 16
_ZEROS = bytes(_CHUNK_BYTES)


class NoSnapshotError(KvmHarnessError):
    """A job cannot be done by a restored host, so a host must be booted for it; says why."""


class DamagedError(KvmHarnessError):
    """A saved host is not what was kept."""


def reserved_memory() -> str:
    """The memory of jobs, for the kernel's command line."""
    return f"memmap={JOB_BYTES >> 20}M${JOB_ADDRESS:#x}"


def waiting_agent(port: int, byte: int, modules: Sequence[str], imports: Sequence[str] = ()) -> bytes:
    """What :mod:`kvmharness.lab.inside.waiting` is told.

    Args:
        port, byte: the OUT at which the emulator saves the host.
        modules: to import before that.
        imports: to import as well, as far as that is possible.
    """
    told = {"address": JOB_ADDRESS, "size": JOB_BYTES, "port": port, "byte": byte}
    return json.dumps({**told, "modules": list(modules), "imports": list(imports)}).encode()


def keep(saved: Path, target: Path) -> None:
    """Copies a saved host's files to a new folder, with their hashes."""
    with disk_errors(target):
        target.mkdir()
        hashes = {path.name: copy_sparse(path, target / path.name) for path in sorted(saved.iterdir())}
        (target / _HASHES).write_text(json.dumps(hashes, indent=1))


def take(kept: Path, target: Path) -> None:
    """Copies the files of a saved host to a new folder.

    Raises:
        DamagedError: they are not what :func:`keep` put there.
        DiskFullError: of the target's disk.
    """
    with disk_errors(target):
        target.mkdir()
        try:
            hashes = dict(json.loads((kept / _HASHES).read_bytes()))
            wrong = [name for name in hashes if copy_sparse(kept / name, target / name) != hashes[name]]
        except (FileNotFoundError, ValueError, TypeError) as error:
            raise DamagedError(f"the saved host in {kept} is damaged: {error}") from None
    if wrong or not hashes:
        raise DamagedError(
            f"the saved host in {kept} is damaged: {', '.join(wrong) or 'all of it'} changed since it was kept"
        )


def put_job(memory: Path, archive: bytes) -> None:
    """Writes a job to a saved host's memory, a file that begins at address 0.

    Args:
        archive: see :func:`kvmharness.lab.image.initramfs.job_archive`.

    Raises:
        NoSnapshotError: it is too large.
    """
    data = MAGIC + len(archive).to_bytes(8, "little") + archive
    if len(data) > JOB_BYTES:
        raise NoSnapshotError(f"a job of {len(archive) >> 20} MB is too large for a restored host")
    with disk_errors(memory), memory.open("r+b") as file:
        file.seek(JOB_ADDRESS)
        file.write(data)


def copy_sparse(source: Path, target: Path) -> str:
    """Copies a file without the pieces that are zero, and gives a hash of the others, of their places and of its size.

    Raises:
        FileNotFoundError: there is no such file.
    """
    hasher = hashlib.sha256()
    with source.open("rb") as read, target.open("wb") as write:
        size = os.fstat(read.fileno()).st_size
        for at, chunk in _pieces(read):
            if chunk != _ZEROS[: len(chunk)]:
                hasher.update(at.to_bytes(8, "little") + chunk)
                write.seek(at)
                write.write(chunk)
        write.truncate(size)
    hasher.update(size.to_bytes(8, "little"))
    return hasher.hexdigest()


def _pieces(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The pieces of a file at multiples of their size, but for those that lie in its holes."""
    number, at = file.fileno(), 0
    while True:
        try:
            at = os.lseek(number, at, os.SEEK_DATA) // _CHUNK_BYTES * _CHUNK_BYTES
        except OSError:  # ENXIO: there is nothing but holes from here on
            return
        chunk = os.pread(number, _CHUNK_BYTES, at)
        if not chunk:
            return
        yield at, chunk
        at += len(chunk)
