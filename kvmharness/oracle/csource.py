"""Functions and numbers in a kernel's C source, in a form that neither comments nor white space change."""

import re
from collections.abc import Callable, Mapping
from functools import cached_property

from kvmharness.errors import KvmHarnessError

ReadSource = Callable[[str], bytes | None]
"""A kernel's source: the content of a file by its path in the tree, None where there is no such file."""

# Characters and strings come before the rest, so that no comment begins and no brace counts inside of one. A comment
# that does not end goes on to the end of the file: it is looked for once, whatever else looks like the start of one.
_TOKEN = re.compile(
    r"""
    (?P<gap> /\* (?: .*? \*/ | .* ) | //[^\n]* | \\\n | \s+ )
  | " (?: \\. | [^"\\\n] )* " | ' (?: \\. | [^'\\\n] ) '
  | \w+ | -> | && | \|\| | [=!<>]= | \+\+ | -- | .
    """,
    re.VERBOSE | re.DOTALL,
)
# A bracket, and beside it what may look like one.
_TO_BRACE = re.compile(r"\s*(?=\{)")
_BRACKET = re.compile(r"' (?: \\. | [^'\\\n] ) ' | [(){}]", re.VERBOSE | re.DOTALL)
_COMMENT_OR_STRING = re.compile(
    r"""
    (?P<string> " (?: \\. | [^"\\\n] )* " ) | (?P<kept> ' (?: \\. | [^'\\\n] ) ' ) | /\* (?: .*? \*/ | .* ) | //[^\n]*
    """,
    re.VERBOSE | re.DOTALL,
)


class NotDescribedError(KvmHarnessError):
    """A kernel's source is not of the form that a model describes."""


def normal(text: str) -> str:
    """C text as its tokens, with one space between any two."""
    return " ".join(found.group() for found in _TOKEN.finditer(text) if found["gap"] is None)


def without_comments(text: str) -> str:
    """C text without its comments, and with empty strings: what a string says is no code, and might look like some."""
    return _COMMENT_OR_STRING.sub(lambda found: found["kept"] or ('""' if found["string"] else " "), text)


class CSource:
    """A source file.

    Args:
        path: in its tree, for messages.
        content: of the file; None when there is none.
    """

    def __init__(self, path: str, content: bytes | None) -> None:
        self.path = path
        self._text = without_comments((content or b"").decode("utf-8", "replace"))

    def bodies(self, name: str) -> list[str]:
        """What stands between the braces of each definition of a function, in the normal form of :func:`normal`."""
        found, done = [], 0
        for start in re.finditer(rf"\b{re.escape(name)}\s*(?=\()", self._text):
            after = self._closing.get(start.end())
            if after is None or start.start() < done:
                continue
            head = _TO_BRACE.match(self._text, after + 1)
            if head is not None and head.end() in self._closing:  # else it is a call or a declaration
                done = self._closing[head.end()]
                found.append(normal(self._text[head.end() + 1 : done]))
        return found

    @cached_property
    def _closing(self) -> Mapping[int, int]:
        """For the place of each bracket that of the one that closes it; round and curly ones do not know each other."""
        found: dict[int, int] = {}
        opened: dict[str, list[int]] = {")": [], "}": []}
        for each in _BRACKET.finditer(self._text):
            match each.group():
                case "(":
                    opened[")"].append(each.start())
                case "{":
                    opened["}"].append(each.start())
                case ")" | "}" as closing if opened[closing]:
                    found[opened[closing].pop()] = each.start()
        return found

    def body(self, name: str) -> str:
        """The body of a function.

        Raises:
            NotDescribedError: there is none of that name, or several of which the preprocessor chooses one.
        """
        found = self.bodies(name)
        if len(found) != 1:
            raise NotDescribedError(f"{self.path} has {'several' if found else 'no'} {name}()")
        return found[0]

    def mentions(self, name: str) -> int:
        """How often a function is called, named or defined."""
        return len(re.findall(rf"\b{re.escape(name)}\b", self._text))

    def number(self, macro: str) -> int:
        """The value of a macro that is a decimal number.

        Raises:
            NotDescribedError: it is not, is defined several times, or not at all.
        """
        found = re.findall(rf"^[ \t]*#[ \t]*define[ \t]+{re.escape(macro)}\b(.*)$", self._text, re.MULTILINE)
        values = [value.strip(" \t()") for value in found]
        if len(values) != 1 or not values[0].isdecimal():
            raise NotDescribedError(f"{self.path} has {' and '.join(values) or 'nothing'} as {macro}")
        return int(values[0])
