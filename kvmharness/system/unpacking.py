"""Unpacks what is compressed, up to the size that its kind may have: a small file can unpack to anything."""

import gzip
import os
import stat
import subprocess
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO

from kvmharness.system.programs import DiskFullError, die_with_parent, find, tells_full_disk
from kvmharness.system.reading import Kind, check, fault, limited, opened

_XZ_MEMORY_BYTES = 256 << 20  # `xz -9` needs 65 MiB to unpack
_PIECE_BYTES = 1 << 20
_SAID_MAX = 4096  # of what tar complains of: on a full disk, of every file
# How packed files begin -> what unpacks them.
_PACKED = {b"\xfd7zXZ": "xz", b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd"}


def gunzip(name: str, data: bytes, kind: Kind) -> bytes:
    """Unpacks gzip. Raises: ReadError, it is none, is cut off, or unpacks to more than its kind may have."""
    try:
        with gzip.open(BytesIO(data)) as file:
            return limited(name, file.read, kind)
    except (OSError, EOFError, zlib.error) as error:
        raise fault(name, kind, f"cannot unpack it: {error}") from None


def unxz(name: str, data: bytes, kind: Kind) -> bytes:
    """Unpacks xz. Raises: ReadError, as :func:`gunzip`."""
    import lzma

    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)
    given = [data]

    def more(most: int) -> bytes:
        return b"" if unpacker.eof else unpacker.decompress(given.pop() if given else b"", most)

    try:
        content = limited(name, more, kind)
    except lzma.LZMAError as error:
        raise fault(name, kind, f"cannot unpack it: {error}") from None
    if not unpacker.eof:
        raise fault(name, kind, "cannot unpack it: it is cut off")
    return content


def unzstd(path: Path, kind: Kind) -> bytes:
    """Unpacks a file by zstd. Raises: ReadError, as :func:`gunzip`; MissingToolError, zstd is not installed."""
    check(path, kind)
    command = [find("zstd"), "-d", "-c", "-q", "--", str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        try:
            content = limited(str(path), process.stdout.read, kind)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise fault(str(path), kind, "zstd cannot unpack it")
    return content


def untar(path: Path, target: Path, options: Sequence[str], kind: Kind, member: Kind) -> None:
    """Unpacks a tarball into an empty folder: folders, regular files, and symbolic links that stay within it.

    Args:
        path: of the tarball, packed or not.
        target: the folder.
        options: for GNU tar, and names of members.
        kind: what it is read as.
        member: what its files are read as.

    Raises:
        ReadError: it is none, is cut off, unpacks to more than its kind may have, or holds anything else.
        MissingToolError, DiskFullError.
    """
    tar = [*die_with_parent(), find("tar"), "-x", "-f", "-", "-C", str(target), "--no-same-owner", *options]
    words = {**os.environ, "LC_ALL": "C"}
    with opened(path, kind) as file, tempfile.TemporaryFile() as said:
        with (
            _unpacked(file) as (content, unpacker),
            subprocess.Popen(
                tar, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, bufsize=0, env=words
            ) as process,
        ):
            assert process.stdin is not None
            if not _copied(content, process.stdin, said.fileno(), kind):
                process.kill()
                raise fault(str(path), kind, f"it unpacks to more than {kind.most}, which is the limit")
        said.seek(0)
        complaint = said.read(_SAID_MAX).decode(errors="replace")
    if tells_full_disk(complaint):
        raise DiskFullError(target)
    if process.returncode or (unpacker is not None and unpacker.returncode):
        why = complaint.partition("\n")[0].rpartition("tar: ")[2] or "it is cut off or damaged"
        raise fault(str(path), kind, f"cannot unpack it: {why}")
    _check_members(path, target, kind, member)


@contextmanager
def _unpacked(file: IO[bytes]) -> Iterator[tuple[IO[bytes], subprocess.Popen[bytes] | None]]:
    """What is in a file that may be packed, and the process that unpacks it."""
    start = os.pread(file.fileno(), 8, 0)
    program = next((program for magic, program in _PACKED.items() if start.startswith(magic)), None)
    if program is None:
        yield file, None
        return
    command = [*die_with_parent(), find(program), "-d", "-c"]
    with subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        yield process.stdout, process


def _copied(content: IO[bytes], tar: IO[bytes], said: int, kind: Kind) -> bool:
    """Gives all of it to tar; False when it is more than its kind may have. Ends early where tar does, or complains."""
    left = kind.most_bytes
    while piece := content.read(_PIECE_BYTES):
        left -= len(piece)
        if left < 0:
            return False
        try:
            rest = memoryview(piece)
            while rest:
                rest = rest[tar.write(rest) :]
        except BrokenPipeError:
            break
        if os.fstat(said).st_size > _SAID_MAX:
            break
    return True


def _check_members(path: Path, folder: Path, kind: Kind, member: Kind) -> None:
    """Refuses what was unpacked where it is more than files that can be read."""
    for inside, folders, names in os.walk(folder):
        for name in (*folders, *names):
            place = os.path.join(inside, name)
            what, found = os.path.relpath(place, folder), os.lstat(place)
            if stat.S_ISLNK(found.st_mode):
                link = os.path.normpath(os.path.join(os.path.dirname(what), os.readlink(place)))
                if link.startswith(("/", "../")) or link == "..":
                    raise fault(str(path), kind, f"its link {what} leads out of it")
            elif stat.S_ISREG(found.st_mode):
                if found.st_size > member.most_bytes:
                    raise fault(str(path), kind, f"{what} in it is larger than {member.most}, which is the limit")
            elif not stat.S_ISDIR(found.st_mode):
                raise fault(str(path), kind, f"{what} in it is a device or a pipe, not a regular file")
