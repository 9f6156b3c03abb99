"""Pieces of C, as the kernel writes it: tabs, 100 columns."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import wrap

from kvmharness.guest.image import Image

COLUMNS = 100
_TAB = 8
_BYTES_A_LINE = 8
_COMMENT_AT = 56


def comment(paragraphs: Iterable[str]) -> str:
    """A block comment; paragraphs of several lines stay as they are."""
    lines: list[str] = []
    for paragraph in paragraphs:
        lines += [*(paragraph.split("\n") if "\n" in paragraph else wrap(paragraph, COLUMNS - 6)), ""]
    return "\n".join(["/*", *(f" * {_harmless(line)}".rstrip() for line in lines[:-1]), " */"])


def _harmless(text: str) -> str:
    """What a name out of a file could break a comment with."""
    return "".join(each if each.isprintable() else " " for each in text).replace("*/", "* /").replace("/*", "/ *")


def string(text: str) -> str:
    """A string literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def number(value: int) -> str:
    """Small ones in decimal, others in hexadecimal."""
    return str(value) if value < 10 else f"{value:#x}"


def initializer(values: Sequence[str]) -> str:
    """In braces, without zeros at the end."""
    kept = list(values)
    while len(kept) > 1 and kept[-1] == "0":
        kept.pop()
    return "{ " + ", ".join(kept) + " },"


def noted(text: str, note: str) -> str:
    """A line, one tab in, with a comment behind it, or above it where it does not fit."""
    if not note:
        return f"\t{text}"
    width = _TAB + len(text)
    gap = max(1, -(-(_COMMENT_AT - width) // _TAB))
    end = (width // _TAB + gap) * _TAB if width < _COMMENT_AT else (width // _TAB + 1) * _TAB
    if end + len(note) + 6 <= COLUMNS:
        return "\t" + text + "\t" * gap + f"/* {note} */"
    return f"\t/* {note} */\n\t{text}"


def defines(values: Mapping[str, str]) -> str:
    """Macros."""
    width = max(len(f"#define {name}") for name in values) // _TAB + 1
    lines = []
    for name, value in values.items():
        start = f"#define {name}"
        lines.append(start + "\t" * (width - len(start) // _TAB) + value)
    return "\n".join(lines)


def bytes_of(image: Image, name: str) -> str:
    """A guest program as an array of bytes, beside its source."""
    lines = [f"static const uint8_t {name}[] = {{"]
    for line in image.lines:
        start = line.address - image.origin
        code = image.code[start : start + line.size_bytes]
        rows = list(_rows(code))
        source = " ".join(line.source.partition("#")[0].split())
        if not rows:
            lines += [f"\t/* {source} */"] if source.endswith(":") else []
            continue
        lines += [noted(rows[0], source), *(f"\t{row}" for row in rows[1:])]
    return "\n".join([*lines, "};"]) + "\n\n"


def _rows(code: bytes) -> Iterator[str]:
    for start in range(0, len(code), _BYTES_A_LINE):
        yield ", ".join(f"{byte:#04x}" for byte in code[start : start + _BYTES_A_LINE]) + ","
