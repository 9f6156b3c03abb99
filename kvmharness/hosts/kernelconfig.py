"""The configuration of the running kernel. Apart from the facts: an emulated host has none, and need not load this."""

import gzip
import hashlib
import os
import zlib


def config_hash(root: str = "/") -> str | None:
    """SHA-256 of it in hexadecimal, None where it cannot be read.

    Args:
        root: "/" for this machine, otherwise a directory with the same files.
    """
    release = (_read(root, "proc/sys/kernel/osrelease") or b"").decode(errors="replace").strip()
    text = _read(root, f"boot/config-{release}")
    if text is None:
        text = _unpacked(_read(root, "proc/config.gz"))
    # Of the text, so that the two agree.
    return None if text is None else hashlib.sha256(text).hexdigest()


def _unpacked(packed: bytes | None) -> bytes | None:
    if not packed:
        return None
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError, zlib.error):
        return None


def _read(root: str, path: str) -> bytes | None:
    try:
        with open(os.path.join(root, path), "rb") as file:
            return file.read()
    except OSError:
        return None
