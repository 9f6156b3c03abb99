"""Functions and numbers in a kernel's C source, in a form that neither comments nor white space change."""

import re
from collections.abc import Callable

from kvmharness.errors import KvmHarnessError

ReadSource = Callable[[str], bytes | None]
"""A kernel's source: the content of a file by its path in the tree, None where there is no such file."""

# Characters and strings come before the rest, so that no comment begins and no brace counts inside of one.
_TOKEN = re.compile(
    r"""
    (?P<gap> /\* .*? \*/ | //[^\n]* | \\\n | \s+ )
  | " (?: \\. | [^"\\\n] )* " | ' (?: \\. | [^'\\\n] ) '
  | \w+ | -> | && | \|\| | [=!<>]= | \+\+ | -- | .
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_OR_STRING = re.compile(
    r"""
    (?P<string> " (?: \\. | [^"\\\n] )* " ) | (?P<kept> ' (?: \\. | [^'\\\n] ) ' ) | /\* .*? \*/ | //[^\n]*
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
        found = []
        for start in re.finditer(rf"\b{re.escape(name)}\s*(?=\()", self._text):
            after = _past(self._text, start.end(), "()")
            head = re.compile(r"\s*(?=\{)").match(self._text, after)
            if head is not None:  # else it is a call or a declaration
                found.append(normal(self._text[head.end() + 1 : _past(self._text, head.end(), "{}") - 1]))
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


def _past(text: str, start: int, pair: str) -> int:
    """The place after the bracket that closes the one at *start*; the text's end when none does."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        depth += (token.group() == pair[0]) - (token.group() == pair[1])
        if not depth:
            return token.end()
    return len(text)
