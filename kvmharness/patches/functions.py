"""Which functions of a C file a patch changes: found by comparing the file before and after, definition by definition.

What stands behind the ``@@`` of a hunk is often the function before, and a change of a comment is none. The kernel's
style is relied upon: the braces around a function stand in the first column.

Source: Documentation/process/coding-style.rst, "Placing Braces and Spaces".
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from kvmharness.oracle.csource import normal, without_comments

_FUNCTION = re.compile(
    r"^ ?(?P<head>[A-Za-z_][^;{}#]*\)[^;{}#()]*)\n\{[ \t]*\n(?P<body>.*?)^\}", re.MULTILINE | re.DOTALL
)
_IN_A_LINE = re.compile(r"^(?P<head>[A-Za-z_][^;{}#=]*\))\s*\{(?P<body>[^{}\n]*)\}[ \t]*$", re.MULTILINE)
_MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(?P<head>\w+)(?P<body>(?:\\\n|[^\n])*)", re.MULTILINE)
# What may follow a function's own parameters: __must_hold(lock).
_ATTRIBUTES = re.compile(r"(?<=\))(?:\s+__\w+\s*(?:\((?:[^()]|\([^()]*\))*\))?)+\s*$")
_PARAMETERS = re.compile(r"(\w+|\w+\((\w+)\))\s*\(((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)\s*$")
_WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Definition:
    """A function or a macro with a body.

    Attributes:
        name: its name; for ``FNAME(walk_addr)`` what is in the brackets.
        head: what stands before the body; of a macro, its name.
        body: as written, without comments.
        macro: it is a macro.
    """

    name: str
    head: str
    body: str
    macro: bool = False

    @cached_property
    def words(self) -> frozenset[str]:
        """Every name in its body."""
        return frozenset(_WORD.findall(self.body))

    @property
    def parameters(self) -> tuple[str, ...]:
        """A function's parameters by name, in order."""
        found = _PARAMETERS.search(_ATTRIBUTES.sub("", self.head))
        names = [_WORD.findall(part) for part in found[3].split(",")] if found and not self.macro else []
        return tuple(words[-1] if words else "" for words in names)


@dataclass(frozen=True, slots=True)
class Changed:
    """What of a C file is other code than before.

    Attributes:
        functions: functions and macros that were changed, came or went: as they are, and as they were.
        beside: names in what was changed outside of them: of a declaration or a call, all; of what has braces, such as
            a struct or a table, those that there are more of or fewer.
    """

    functions: tuple[Definition, ...]
    beside: frozenset[str]


def definitions(text: str) -> list[Definition]:
    """Every function and macro of a C text without comments."""
    return [definition for _, _, definition in _placed(text)]


def changed(before: bytes | None, after: bytes | None) -> Changed:
    """What a change of a file changes.

    Args:
        before: its content; None when there was no such file.
        after: the same, afterwards.
    """
    old, new = (_parts((content or b"").decode("utf-8", "replace")) for content in (before, after))
    functions = [each for key, each in new[0].items() if key not in old[0]]
    functions += [each for key, each in old[0].items() if key not in new[0]]
    gone, come = (sorted(ours - theirs) for ours, theirs in ((old[1], new[1]), (new[1], old[1])))
    before_words, after_words = (Counter(_WORD.findall(" ".join(pieces))) for pieces in (gone, come))
    beside = {*(before_words - after_words), *(after_words - before_words)}
    beside.update(word for piece in (*gone, *come) if "{" not in piece for word in _WORD.findall(piece))
    return Changed(tuple(functions), frozenset(beside))


def _parts(content: str) -> tuple[Mapping[tuple[str, str], Definition], frozenset[str]]:
    """The definitions by what they come to, and what is left."""
    text = without_comments(content)
    found: dict[tuple[str, str], Definition] = {}
    rest, done = [], 0
    for start, end, each in _placed(text):
        found[normal(each.head), normal(each.body)] = each
        rest.append(text[done:start])
        done = end
    pieces = re.split(r"\n(?=[A-Za-z_#])", "\n".join([*rest, text[done:]]))
    return found, frozenset(filter(None, map(normal, pieces)))


def _placed(text: str) -> Iterator[tuple[int, int, Definition]]:
    """(start, end, definition) of each, in order; one inside another, as a macro in a function, belongs to that."""
    every = [
        (found.start(), found.end(), Definition(name, found["head"], found["body"], kind is _MACRO))
        for kind in (_FUNCTION, _IN_A_LINE, _MACRO)
        for found in kind.finditer(text)
        if (name := found["head"] if kind is _MACRO else _name(found["head"]))
    ]
    end = 0
    for each in sorted(every, key=lambda each: each[:2]):
        if each[0] >= end:
            end = each[1]
            yield each


def _name(head: str) -> str:
    found = _PARAMETERS.search(_ATTRIBUTES.sub("", head))
    return (found[2] or found[1]) if found else ""
