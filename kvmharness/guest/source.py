"""A guest program as it is written: the header contract, and the statements behind it.

A ``.asm`` file opens with comment lines ``# key: text``; a line ``#     more`` goes on with the key above it. All keys
of :data:`HEADER_KEYS` must be there, since the loader reads registers, memory and mode from them and a reader trusts
them. What Keystone would read wrongly without a word is refused here, with the file and the line.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from kvmharness.errors import UsageError
from kvmharness.system.reading import ASM, ReadError, read_text

HEADER_KEYS = ("purpose", "mode", "in", "out", "clobber", "memory", "exits", "source")

DEFAULTS = {
    "purpose": "not said",
    "mode": "long64",
    "in": "none",
    "out": "not said",
    "clobber": "all",
    "memory": "0x0 MEMORY_BYTES everything",
    "exits": "not said",
    "source": "not said",
}
"""What the header of somebody's own program need not say; the programs that come with the package say everything."""

MODES = {"real16": 16, "long64": 64}

# What Keystone understands and does as it says. `.org`, `.section`, `.error` and others are silently ignored by it.
DIRECTIVES = frozenset({".quad", ".long", ".word", ".byte", ".ascii", ".asciz", ".space", ".balign", ".rept", ".endr"})

_HEADER = re.compile(r"#\s(\w+):\s*(.*)")
_MORE = re.compile(r"#\s{3,}(\S.*)")
_LABEL = re.compile(r"\s*([A-Za-z_]\w*):\s*(.*)")
_INCLUDE = re.compile(r'\s*\.include\s+"([^"]+)"\s*$')
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
# Some of them end a line for one reader and not for another; NUL ends the source for Keystone.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")
_LINE_CHARACTERS, _LINES = 4096, 100_000
# A single digit is the same in either base; numeric labels (`1:`, `1b`) are refused with the rest.
_BARE_NUMBER = re.compile(r"(?<![\w.])(?!0x[0-9a-fA-F])\d(?:\w+|(?=:))")


class AssembleError(UsageError):
    """A guest program that cannot be assembled.

    Attributes:
        reason: what is wrong, without the place.
        path: the file as it was named.
        line: the line's number, counted from 1; 0 where the file as a whole is meant.
        text: the line itself.
    """

    def __init__(self, message: str, path: str, line: int = 0, text: str = "", hint: str = "") -> None:
        where = f"{path}:{line}" if line else path
        super().__init__(f"{where}: {message}" + (f"\n    {text.strip()}" if text else ""), hint)
        self.reason, self.path, self.line, self.text = message, path, line, text


@dataclass(frozen=True, slots=True)
class Statement:
    """One line of source: an optional label and an optional instruction or directive."""

    path: str
    line: int
    source: str  # as written, for messages and listings
    label: str | None
    code: str  # without label and comment; may be empty


@dataclass(frozen=True, slots=True)
class Program:
    """A parsed guest program."""

    name: str
    path: str
    header: dict[str, str]
    statements: tuple[Statement, ...]

    @property
    def mode(self) -> str:
        """The mode that the program starts in: a name of :data:`MODES`."""
        return self.header["mode"].split(",")[0].strip()

    @property
    def bits(self) -> int:
        """Operand size of that mode: 16 or 64."""
        return MODES[self.mode]


def parse(path: Path, defaults: Mapping[str, str] | None = None) -> Program:
    """Reads a guest program and the files it includes.

    Args:
        path: the file.
        defaults: for what its header does not say; without any it must say everything.

    Raises:
        AssembleError: a file cannot be read, the header lacks a key, or a line is one that Keystone would misread.
    """

    def read_include(name: str) -> str:
        return _read(path.parent / name)

    return parse_text(_read(path), str(path), name=path.stem, read_include=read_include, defaults=defaults)


def parse_text(
    text: str,
    path: str,
    *,
    name: str,
    read_include: Callable[[str], str],
    defaults: Mapping[str, str] | None = None,
) -> Program:
    """Parses source text.

    Raises:
        AssembleError: as for :func:`parse`.
    """
    contract = {**(defaults or {}), **_header(text)}
    _check_header(contract, path)
    return Program(name, path, contract, tuple(_statements(text, path, read_include, 0, count(1))))


def _read(path: Path) -> str:
    try:
        return read_text(path, ASM)
    except ReadError as e:
        raise AssembleError(f"cannot be read: {e.reason}", str(path), hint=e.hint) from e


def _header(text: str) -> dict[str, str]:
    """The leading comment block as key -> text."""
    header: dict[str, str] = {}
    key = None
    for line in map(str.strip, text.strip().splitlines()):
        if not line.startswith("#"):
            break
        if match := _HEADER.fullmatch(line):
            key = match[1]
            header[key] = match[2].strip()
        elif key and (match := _MORE.fullmatch(line)):
            header[key] += "\n" + match[1].strip()
    return header


def _check_header(header: dict[str, str], path: str) -> None:
    missing = [key for key in HEADER_KEYS if key not in header]
    if missing:
        raise AssembleError(
            f"the header lacks {', '.join(missing)}",
            path,
            hint=f"A guest opens with comment lines '# key: text' for: {', '.join(HEADER_KEYS)}.",
        )
    mode = header["mode"].split(",")[0].strip()
    if mode not in MODES:
        raise AssembleError(f"unknown mode {mode!r}", path, hint=f"The mode starts with one of: {', '.join(MODES)}.")


def _statements(
    text: str, path: str, read_include: Callable[[str], str], depth: int, lines: Iterator[int]
) -> list[Statement]:
    if depth > 8:
        raise AssembleError("includes itself", path)
    if match := _CONTROL.search(text):
        number = text.count("\n", 0, match.start()) + 1
        raise AssembleError(f"holds the control character {match[0]!r}", path, number, hint="Is this an .asm file?")
    found = []
    for number, source in enumerate(text.splitlines(), start=1):
        if len(source) > _LINE_CHARACTERS:
            raise AssembleError(f"is longer than {_LINE_CHARACTERS} characters", path, number, source[:80])
        if next(lines) > _LINES:  # a file may include another one as often as it likes, and that one the next
            raise AssembleError(f"more than {_LINES} lines, with what is included", path, number, source)
        if match := _INCLUDE.fullmatch(_without_comment(source)):
            inner = str(Path(path).parent / match[1])
            try:
                included = read_include(match[1])
            except AssembleError as e:
                raise AssembleError(f"include: {e}", path, number, source, e.hint) from e
            found += _statements(included, inner, read_include, depth + 1, lines)
            continue
        label, code = _split_label(_without_comment(source).strip())
        _refuse_misread(code, path, number, source)
        if label or code:
            found.append(Statement(path, number, source, label, code))
    return found


def _split_label(code: str) -> tuple[str | None, str]:
    match = _LABEL.fullmatch(code)
    return (match[1], match[2]) if match else (None, code)


def _without_comment(source: str) -> str:
    """The line without its ``#`` comment; a ``#`` inside a string stays."""
    masked = _STRING.sub(lambda m: "_" * len(m[0]), source)
    cut = masked.find("#")
    return source if cut < 0 else source[:cut]


def _refuse_misread(code: str, path: str, number: int, source: str) -> None:
    """Refuses what Keystone takes for something else without saying so."""
    plain = _STRING.sub("", code)
    if not code.isascii():
        raise AssembleError("only comments may hold other characters than ASCII", path, number, source)
    if '"' in plain:
        raise AssembleError("a string has no end", path, number, source, "Close it with '\"' on the same line.")
    if ";" in plain:
        raise AssembleError("';' separates statements here, it is no comment", path, number, source, "Write '#'.")
    if match := _BARE_NUMBER.search(plain):
        raise AssembleError(
            f"the number {match[0]} is ambiguous: its base depends on the assembler's state",
            path,
            number,
            source,
            "Write numbers as 0x..; numeric labels do not exist.",
        )
    word = plain.split(maxsplit=1)[0] if plain.strip() else ""
    if word.startswith(".") and word not in DIRECTIVES:
        raise AssembleError(
            f"the directive {word} is not available",
            path,
            number,
            source,
            f"Available: {' '.join(sorted(DIRECTIVES))}, and .include of a file.",
        )
