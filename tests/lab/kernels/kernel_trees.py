"""Small trees that a patch set's hunks find their lines in, at their line numbers, without a kernel's source."""

from collections.abc import Iterable
from pathlib import Path

from kvmharness.patches.diff import Hunk
from kvmharness.patches.mbox import Patch

FILLER = b"/* line %d */\n"


def tree_with(patches: Iterable[Patch], root: Path) -> Path:
    """A tree that has all the patches: each file holds what their hunks leave behind, and filler in between."""
    return _written(
        root, [(change.path, hunk, hunk.new) for p in patches for change in p.changes for hunk in change.hunks]
    )


def _written(root: Path, pieces: list[tuple[str, Hunk, tuple[bytes, ...]]]) -> Path:
    files: dict[str, list[bytes]] = {}
    for path, hunk, lines in pieces:
        content = files.setdefault(path, [])
        start, end = hunk.new_start - 1, hunk.new_start - 1 + len(lines)
        content.extend(FILLER % n for n in range(len(content) + 1, end + 101))
        content[start:end] = lines
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"".join(content))
    return root
