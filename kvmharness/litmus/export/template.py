"""The C that all exported tests share: parts of it that a test has no use for are left out."""

import re
from collections.abc import Container, Iterator, Mapping
from pathlib import Path

_TEMPLATE = Path(__file__).with_name("selftest.c")


def fill(parts: Container[str], texts: Mapping[str, str]) -> str:
    """The file.

    ``//#if NAME``, ``//#else`` and ``//#end`` enclose what only some tests need; ``//@NAME`` is a line to replace.

    Args:
        parts: names of what is needed.
        texts: what to put where a name stands; nothing leaves no line.

    Raises:
        KeyError: a name without a text.
    """
    return re.sub(r"\n{3,}", "\n\n", "".join(f"{line}\n" for line in _lines(parts, texts)))


def _lines(parts: Container[str], texts: Mapping[str, str]) -> Iterator[str]:
    inside: list[bool] = []
    for line in _TEMPLATE.read_text("utf-8").splitlines():
        word, _, name = line.partition(" ")
        if word == "//#if":
            inside.append(name in parts)
        elif word == "//#else":
            inside[-1] = not inside[-1]
        elif word == "//#end":
            inside.pop()
        elif all(inside):
            if line.startswith("//@"):
                yield from texts[line[3:]].splitlines()
            else:
                yield line
