"""Unpacks what is compressed, up to the size that its kind may have: a small file can unpack to anything."""

import gzip
import subprocess
import zlib
from io import BytesIO
from pathlib import Path

from kvmharness.system.programs import find
from kvmharness.system.reading import Kind, check, fault, limited

_XZ_MEMORY_BYTES = 256 << 20  # `xz -9` needs 65 MiB to unpack


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
