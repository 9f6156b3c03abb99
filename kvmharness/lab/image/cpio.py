"""An initramfs archive (cpio, format "newc"), written byte for byte the same for the same content.

Nothing of the machine that writes it gets in: no owner, no time, no inode number. So an image can be cached by the
hash of what it holds, and a boot in an emulator that counts instructions repeats exactly.

Source: Documentation/driver-api/early-userspace/buffer-format.rst, "The format of the initramfs buffer".
"""

import stat
from dataclasses import dataclass

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_ALIGN = 4
# The kernel wants the next archive of a concatenation to begin on a multiple of 4; tools pad to a block.
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder, symbolic link or device node of an archive.

    Attributes:
        mode: type and permission bits, as in ``st_mode``.
        data: the content of a file, or the target of a symbolic link.
        device: (major, minor) of a device node.
    """

    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


class Archive:
    """What goes into an archive, by path; parent folders come by themselves.

    Paths are absolute inside the image and written without the leading slash. Adding a path again replaces it.
    """

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def __contains__(self, path: str) -> bool:
        return _normal(path) in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def add_file(self, path: str, data: bytes, *, executable: bool = False) -> None:
        """Add a regular file."""
        self._add(path, Entry(stat.S_IFREG | (0o755 if executable else 0o644), data))

    def add_symlink(self, path: str, target: str) -> None:
        """Add a symbolic link that points to *target*."""
        self._add(path, Entry(stat.S_IFLNK | 0o777, target.encode()))

    def add_folder(self, path: str) -> None:
        """Add an empty folder, a mount point for instance."""
        self._add(path, Entry(stat.S_IFDIR | 0o755))

    def add_char_device(self, path: str, major: int, minor: int) -> None:
        """Add a character device node; the kernel makes it, so this needs no root."""
        self._add(path, Entry(stat.S_IFCHR | 0o600, device=(major, minor)))

    def _add(self, path: str, entry: Entry) -> None:
        path = _normal(path)
        parent, _, _ = path.rpartition("/")
        if parent and parent not in self._entries:
            self.add_folder(parent)
        self._entries[path] = entry

    def to_bytes(self) -> bytes:
        """The archive, sorted by path (so that a folder comes before what is in it), padded to a block."""
        parts: list[bytes] = []
        for inode, path in enumerate(sorted(self._entries), start=1):
            _append(parts, path, self._entries[path], inode)
        _append(parts, _TRAILER, Entry(0), 0)
        image = b"".join(parts)
        return image + b"\0" * (-len(image) % _BLOCK)


def _normal(path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise ValueError(f"not a path inside an image: {path!r}")
    return "/".join(parts)


def _append(parts: list[bytes], path: str, entry: Entry, inode: int) -> None:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    major, minor = entry.device
    # inode, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, major, minor, len(name), 0)
    header = _MAGIC + b"".join(b"%08x" % field for field in fields)
    parts.append(header + name + b"\0" * (-(len(header) + len(name)) % _ALIGN))
    parts.append(entry.data + b"\0" * (-len(entry.data) % _ALIGN))
