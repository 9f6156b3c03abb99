"""Unified diffs as data: parsed from any text around them, and turned around.

Everything is bytes, because kernel sources and patches need not be valid UTF-8. A path is checked as it is read, so
no later step ever sees one that leaves the tree.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO

from kvmharness.errors import UsageError

_HUNK = re.compile(rb"@@ -(\d{1,18})(?:,(\d{1,18}))? \+(\d{1,18})(?:,(\d{1,18}))? @@ ?(.*)")
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)")
_ESCAPED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_NO_NEWLINE = b"\\ "  # "\ No newline at end of file", in whatever language
_DEV_NULL = "/dev/null"
_SPECIAL_MODES = {b"120000": "a symbolic link", b"160000": "a submodule"}


class PatchError(UsageError):
    """A patch cannot be read, leaves the tree, or does not apply.

    Attributes:
        path: the file of the tree that it is about, or an empty string.
        hunk: the hunk's number in that file, from 1, or 0.
    """

    def __init__(self, message: str, hint: str = "", *, path: str = "", hunk: int = 0) -> None:
        super().__init__(message, hint)
        self.path = path
        self.hunk = hunk


@dataclass(frozen=True, slots=True)
class Hunk:
    """One hunk.

    Attributes:
        old_start: line number of its first line before the change, from 1; 0 in an empty file.
        new_start: the same after the change.
        lines: pairs of ``b" "``, ``b"-"`` or ``b"+"`` and a line with its newline, if it has one.
        section: what stands behind the second ``@@``; the function's name, usually.
    """

    old_start: int
    new_start: int
    lines: tuple[tuple[bytes, bytes], ...]
    section: bytes = b""

    @property
    def old(self) -> tuple[bytes, ...]:
        """The lines before the change."""
        return tuple(line for op, line in self.lines if op != b"+")

    @property
    def new(self) -> tuple[bytes, ...]:
        """The lines after the change."""
        return tuple(line for op, line in self.lines if op != b"-")

    def reversed(self) -> "Hunk":
        """The hunk that undoes this one."""
        turned = {b"+": b"-", b"-": b"+", b" ": b" "}
        return Hunk(self.new_start, self.old_start, tuple((turned[op], line) for op, line in self.lines), self.section)


@dataclass(frozen=True, slots=True)
class FileChange:
    """What one patch does to one file.

    Attributes:
        old_path: its path before the change; None: the file is created.
        new_path: its path afterwards; None: the file is deleted.
        hunks: in the order of the file.
        copy: the old path stays; with no new path, a copy that is taken back whatever it has become.
    """

    old_path: str | None
    new_path: str | None
    hunks: tuple[Hunk, ...] = ()
    copy: bool = False

    @property
    def path(self) -> str:
        """The path to name in messages."""
        return self.new_path or self.old_path or ""

    def reversed(self) -> "FileChange":
        """The change that undoes this one."""
        hunks = tuple(hunk.reversed() for hunk in self.hunks)
        if self.copy:
            return FileChange(self.new_path, None, hunks, copy=True)
        return FileChange(self.new_path, self.old_path, hunks)


def parse(text: bytes, origin: str = "patch") -> tuple[FileChange, ...]:
    """Every file change in ``text``; prose, mail headers, diffstat and signature around them are passed over.

    Args:
        text: a patch as ``diff -u``, ``git diff`` or ``git format-patch`` writes it.
        origin: what to call it in messages.

    Raises:
        PatchError: a hunk is cut or malformed, a path leaves the tree, or the change is binary or of a special file.
    """
    if text.count(b"\r\n") == text.count(b"\n") > 0:  # a mailer's line ends, not the file's
        text = text.replace(b"\r\n", b"\n")
    return tuple(_Parser(lines_of(text), origin).changes())


def lines_of(text: bytes) -> list[bytes]:
    """Lines as diff sees them, ended by LF alone: a lone CR, which ``splitlines`` would cut at, belongs to its line."""
    return BytesIO(text).readlines()


class _Parser:
    def __init__(self, lines: list[bytes], origin: str) -> None:
        self.lines = lines
        self.origin = origin
        self.at = 0

    def changes(self) -> Iterator[FileChange]:
        pending: FileChange | None = None  # from a git header, until its hunks or the next header
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if line.startswith(b"diff --git "):
                if pending:
                    yield pending
                pending = self._git_header()
            elif self._at_file_header():
                change = self._file()
                if pending and (change.old_path, change.new_path) == (pending.old_path, pending.new_path):
                    change = replace(change, copy=pending.copy)
                elif pending:
                    yield pending
                pending = None
                yield change
            elif line.startswith(b"@@ -") and _HUNK.match(line):
                raise self._error("a hunk without the name of its file before it")
            else:
                self.at += 1
        if pending:
            yield pending

    def _error(self, what: str, path: str = "", hunk: int = 0) -> PatchError:
        where = f"hunk #{hunk} of {path}, " if path else ""
        return PatchError(
            f"{self.origin}: {where}line {self.at + 1}: {what}",
            "Take the patch again from its source; a mailer or an editor may have changed it.",
            path=path,
            hunk=hunk,
        )

    def _git_header(self) -> FileChange | None:
        """The extended header; None where a ``---`` line follows and says it all."""
        old, new = _git_paths(self.lines[self.at].rstrip(b"\n")[len(b"diff --git ") :])
        self.at += 1
        copy = created = deleted = moved = False
        while self.at < len(self.lines):
            line = self.lines[self.at].rstrip(b"\n")
            key, _, value = line.partition(b" ")
            if line.startswith((b"GIT binary patch", b"Binary files ")):
                raise self._error(f"a binary change of {new or old}, which cannot be applied here")
            if key in (b"rename", b"copy"):
                side, _, path = value.partition(b" ")
                old, new = (
                    (_safe_path(path, self.origin), new) if side == b"from" else (old, _safe_path(path, self.origin))
                )
                moved, copy = True, key == b"copy"
            elif line.startswith((b"new file mode", b"deleted file mode", b"new mode")):
                created |= key == b"new" and b" file " in line
                deleted |= key == b"deleted"
                if special := _SPECIAL_MODES.get(line.split()[-1]):
                    raise self._error(f"a change of {new or old}, {special}, which is not applied here")
            elif key not in (b"index", b"similarity", b"dissimilarity", b"old"):
                break
            self.at += 1
        if not (created or deleted or moved):
            return None  # only its mode changed, or hunks follow
        change = FileChange(None if created else old, None if deleted else new, copy=copy)
        if not change.path or (moved and not (old and new)):
            raise self._error("which file it is about cannot be told, or its path leaves the tree")
        return change

    def _at_file_header(self) -> bool:
        following = self.lines[self.at : self.at + 3]
        return (
            len(following) == 3
            and following[0].startswith(b"--- ")
            and following[1].startswith(b"+++ ")
            and following[2].startswith(b"@@ -")
        )

    def _file(self) -> FileChange:
        old, new = (_header_path(line) for line in self.lines[self.at : self.at + 2])
        paths = _strip(old, new, self.origin)
        if not any(paths):
            raise self._error("both sides of the change are /dev/null")
        self.at += 2
        hunks: list[Hunk] = []
        while self.at < len(self.lines) and self.lines[self.at].startswith(b"@@ -"):
            hunks.append(self._hunk(paths[1] or paths[0] or "", len(hunks) + 1))
        return FileChange(*paths, tuple(hunks))

    def _hunk(self, path: str, number: int) -> Hunk:
        match = _HUNK.match(self.lines[self.at])
        if not match:
            raise self._error("not a hunk's first line", path, number)
        old_start, old_left, new_start, new_left = (
            int(group if group is not None else 1) for group in match.groups()[:4]
        )
        self.at += 1
        lines: list[tuple[bytes, bytes]] = []
        while old_left or new_left:
            line = self.lines[self.at] if self.at < len(self.lines) else b""
            op = b" " if line == b"\n" else line[:1]  # mailers strip the blank of an empty context line
            if line.startswith(_NO_NEWLINE) and lines:
                self._drop_newline(lines)
                self.at += 1
                continue
            if op not in (b" ", b"-", b"+") or (op != b"+" and not old_left) or (op != b"-" and not new_left):
                raise self._error(
                    f"the hunk is cut or malformed; {old_left} old and {new_left} new lines are missing", path, number
                )
            old_left -= op != b"+"
            new_left -= op != b"-"
            lines.append((op, b"\n" if line == b"\n" else line[1:]))
            self.at += 1
        if self.at < len(self.lines) and self.lines[self.at].startswith(_NO_NEWLINE) and lines:
            self._drop_newline(lines)
            self.at += 1
        return Hunk(old_start, new_start, tuple(lines), match[5].strip())

    @staticmethod
    def _drop_newline(lines: list[tuple[bytes, bytes]]) -> None:
        op, line = lines[-1]
        lines[-1] = (op, line.removesuffix(b"\n"))


def _header_path(line: bytes) -> bytes:
    path = line[4:].rstrip(b"\n")
    return path if path.startswith(b'"') else path.split(b"\t")[0].rstrip()


def _git_paths(rest: bytes) -> tuple[str | None, str | None]:
    """The two paths behind ``diff --git``, where both are the same name; the other cases have lines of their own."""
    if rest.startswith(b'"'):
        first = _QUOTED.match(rest)  # each is tried at one place only: the line may be long, and the quotes open
        second = _QUOTED.match(rest, first.end() + 1) if first else None
        halves = [first[0], second[0]] if first and second else []
    else:
        middle = len(rest) // 2
        halves = [rest[:middle], rest[middle + 1 :]]
    if len(halves) != 2:
        return None, None
    try:
        old, new = _strip(halves[0], halves[1], "patch")
    except PatchError:
        return None, None  # two names of different lengths: renamed, which other lines say, with their own check
    return old, new


def _strip(old: bytes, new: bytes, origin: str) -> tuple[str | None, str | None]:
    """Both paths without their first component, unless it evidently belongs to the path (``diff.noprefix``)."""
    names = [_unquote(path) for path in (old, new)]
    keep = _DEV_NULL not in names and names[0] == names[1]
    result: list[str | None] = []
    for name in names:
        if name == _DEV_NULL:
            result.append(None)
            continue
        _refuse_escape(name, origin)
        result.append(_refuse_escape(name if keep or "/" not in name else name.partition("/")[2], origin))
    return result[0], result[1]


def _safe_path(path: bytes, origin: str) -> str:
    return _refuse_escape(_unquote(path), origin)


def _unquote(path: bytes) -> str:
    """A path as git quotes it, with C escapes."""
    if path.startswith(b'"') and path.endswith(b'"') and len(path) > 1:
        path = _ESCAPE.sub(_unescape, path[1:-1])
    return path.decode("utf-8", "surrogateescape")


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return bytes([int(code, 8) & 0xFF]) if code.isdigit() else _ESCAPED.get(code, code)


def _refuse_escape(path: str, origin: str) -> str:
    parts = path.split("/")
    if not path or path.startswith("/") or ".." in parts or "" in parts or ".git" in parts or "\0" in path:
        raise PatchError(
            f"{origin}: the path {path!r} leaves the kernel tree; the patch is refused",
            "A patch may name files inside the tree only, as `git format-patch` writes them.",
            path=path,
        )
    return path
