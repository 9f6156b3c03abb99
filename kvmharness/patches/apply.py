"""Applying a patch, or undoing it, in memory.

The tree is only ever read. What a patch changes is kept in an :class:`Overlay`: the new content of each file it
touched. A hunk's place is found by its own lines; it may have moved, and up to two lines of its outer context may
differ, but the lines next to the change never.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kvmharness.patches.diff import FileChange, Hunk, PatchError, lines_of
from kvmharness.system.reading import SOURCE, read

MAX_FUZZ = 2  # as patch(1); the innermost context line on each side always counts


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a hunk went when that was not exactly where it said.

    Attributes:
        offset_lines: how far it had moved.
        fuzz: how many outer context lines were disregarded on either side.
    """

    path: str
    hunk: int
    offset_lines: int
    fuzz: int

    def __str__(self) -> str:
        fuzz = f", with fuzz {self.fuzz}" if self.fuzz else ""
        return f"hunk #{self.hunk} of {self.path} applied {self.offset_lines:+d} lines away{fuzz}"


@dataclass(frozen=True)
class Overlay:
    """A tree as it would be after some patches, without touching it.

    Attributes:
        tree: the kernel tree; never written to.
        files: new content by path relative to the tree, where it differs; None: deleted.
        notes: hunks that did not go exactly where they said.
        originals: what has been read of the tree, shared by the overlays that come from this one.
    """

    tree: Path
    files: Mapping[str, bytes | None] = field(default_factory=dict)
    notes: tuple[Placed, ...] = ()
    originals: dict[str, bytes | None] = field(default_factory=dict, repr=False, compare=False)

    def read(self, path: str) -> bytes | None:
        """The content of a file as this overlay has it; None if there is none.

        Raises:
            PatchError: the file lies outside the tree, behind a symbolic link, or cannot be read.
        """
        return self.files[path] if path in self.files else self._original(path)

    def _original(self, path: str) -> bytes | None:
        if path not in self.originals:
            self.originals[path] = self._read(path)
        return self.originals[path]

    def _read(self, path: str) -> bytes | None:
        file = self.tree / path
        try:
            if not file.resolve().is_relative_to(self.tree.resolve()) or file.is_symlink():
                raise PatchError(
                    f"{path} is, or lies behind, a symbolic link; a patch through it is refused", path=path
                )
            return read(file, SOURCE) if file.exists() else None
        except OSError as e:
            raise PatchError(f"cannot read {file}: {e.strerror} (errno {e.errno})", path=path) from e

    def applied(self, changes: Iterable[FileChange], *, fuzz: int = MAX_FUZZ) -> "Overlay":
        """This overlay with a patch on top.

        Args:
            changes: the patch.
            fuzz: how many outer context lines may differ on either side.

        Raises:
            PatchError: a hunk does not apply; says which one of which file.
        """
        files, notes = dict(self.files), list(self.notes)
        for change in changes:
            current = Overlay(self.tree, files, originals=self.originals)
            content = current._before(change)
            if change.new_path and change.new_path != change.old_path and current.read(change.new_path) is not None:
                raise PatchError(f"{change.new_path} exists already, and the patch creates it", path=change.new_path)
            after = _apply_hunks(content, change, fuzz, notes)
            if change.new_path is None and after and not change.copy:
                raise PatchError(f"{change.path} is deleted by the patch but has other content", path=change.path)
            if change.old_path and change.old_path != change.new_path and not (change.copy and change.new_path):
                self._put(files, change.old_path, None)
            if change.new_path:
                self._put(files, change.new_path, after)
        return Overlay(self.tree, files, tuple(notes), self.originals)

    def undone(self, changes: Iterable[FileChange]) -> "Overlay":
        """This overlay with a patch taken back; nothing but its exact lines will do.

        Raises:
            PatchError: the tree does not contain the patch.
        """
        return self.applied([change.reversed() for change in reversed(list(changes))], fuzz=0)

    def _put(self, files: dict[str, bytes | None], path: str, content: bytes | None) -> None:
        """Notes a file's content; one that is as in the tree again is no change."""
        if content == self._original(path):
            files.pop(path, None)
        else:
            files[path] = content

    def _before(self, change: FileChange) -> bytes:
        if change.old_path is None:
            return b""
        content = self.read(change.old_path)
        if content is None:
            # diff -N without /dev/null names the file that is to be created on both sides.
            if change.old_path == change.new_path and all(not hunk.old for hunk in change.hunks):
                return b""
            raise PatchError(
                f"{change.old_path} is not in {self.tree}",
                "Is this the kernel version that the patch was made for?",
                path=change.old_path,
                hunk=1,
            )
        return content


def _apply_hunks(content: bytes, change: FileChange, fuzz: int, notes: list[Placed]) -> bytes:
    lines = lines_of(content)
    result: list[bytes] = []
    done = 0  # lines of the old file that are in the result
    drift = 0  # what the last hunk's offset makes likely for the next one
    for number, hunk in enumerate(change.hunks, 1):
        expected = max(hunk.old_start - (1 if hunk.old else 0), 0) + drift
        place = next(
            (found for level in range(fuzz + 1) if (found := _find(lines, hunk, expected, done, level)) is not None),
            None,
        )
        if place is None:
            raise _does_not_apply(lines, hunk, change.path, number, expected)
        at, skip_head, skip_tail = place
        drift += at - skip_head - expected
        if at - skip_head != expected or skip_head or skip_tail:
            notes.append(Placed(change.path, number, at - skip_head - expected, max(skip_head, skip_tail)))
        old, new = hunk.old, hunk.new
        result += lines[done:at] + list(new[skip_head : len(new) - skip_tail])
        done = at + len(old) - skip_head - skip_tail
    return b"".join(result + lines[done:])


def _context(hunk: Hunk) -> tuple[int, int]:
    """How many context lines stand before the first and after the last change."""
    changed = [i for i, (op, _) in enumerate(hunk.lines) if op != b" "]
    if not changed:
        return 0, 0
    return changed[0], len(hunk.lines) - 1 - changed[-1]


def _find(lines: list[bytes], hunk: Hunk, expected: int, done: int, fuzz: int) -> tuple[int, int, int] | None:
    """The place nearest to the expected one where the hunk's old lines stand.

    Returns:
        Index of the first line that matched, and how many context lines were skipped before and after it.
    """
    head, tail = _context(hunk)
    # As many lines on both sides as the fuzz says, the longer side first, but never the last one.
    longest = max(head, tail)
    skip_head = min(max(head - (longest - fuzz), 0), max(head - 1, 0))
    skip_tail = min(max(tail - (longest - fuzz), 0), max(tail - 1, 0))
    if fuzz and not (skip_head or skip_tail):
        return None
    old = hunk.old[skip_head : len(hunk.old) - skip_tail]
    if not old:  # nothing to find it by: an insertion without context, as diff -U0 writes it
        return (expected, 0, 0) if done <= expected <= len(lines) else None
    want = list(old)
    last = len(lines) - len(want)
    start = expected + skip_head
    # A place that the patch names far behind the file's end is as far from every place in it.
    for distance in range(max(start - last, done - start, 0), max(start - done, last - start, 0) + 1):
        for at in dict.fromkeys((start - distance, start + distance)):
            if done <= at <= last and lines[at] == want[0] and lines[at : at + len(want)] == want:
                return at, skip_head, skip_tail
    return None


def _does_not_apply(lines: list[bytes], hunk: Hunk, path: str, number: int, expected: int) -> PatchError:
    """Names the hunk and shows the first of its lines that the file does not have there."""
    wanted = hunk.old
    have = lines[expected : expected + len(wanted)]
    differs = next((i for i, line in enumerate(wanted) if i >= len(have) or have[i] != line), 0)
    show = wanted[differs].decode("utf-8", "replace").rstrip("\n") if wanted else ""
    section = f" ({hunk.section.decode('utf-8', 'replace')[:80]})" if hunk.section else ""
    line = expected + differs + 1
    if wanted and all(text.endswith(b"\r\n") for text in wanted) and not any(b"\r\n" in text for text in lines):
        return PatchError(
            f"hunk #{number} of {path}{section} does not apply: its lines end in CRLF, and those of the file in LF",
            "Take the patch again from its source, or turn its line ends round: sed -i 's/\\r$//' FILE.",
            path=path,
            hunk=number,
        )
    return PatchError(
        f"hunk #{number} of {path}{section} does not apply: around line {line} there is no line {show[:200]!r}",
        "Is this the kernel version that the patch was made for, and are the patches that it builds on applied?",
        path=path,
        hunk=number,
    )
