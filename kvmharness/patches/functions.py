"""Which functions of a C file a patch changes: found by comparing the file before and after, definition by definition.

What stands behind the ``@@`` of a hunk is often the function before, and a change of a comment is none. The kernel's
style is relied upon: the braces around a function stand in the first column.

Source: Documentation/process/coding-style.rst, "Placing Braces and Spaces".
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from kvmharness.oracle.csource import normal, without_comments

# What is searched may be anything: every expression here is tried at most once at any place, and takes no way back.
_BREAK = re.compile(r"[;{}#]")
_BEGIN = re.compile(r"^ ?(?=[A-Za-z_])", re.MULTILINE)
_BODY = re.compile(r"\{[ \t]*\n")
_IN_A_LINE = re.compile(r"\{(?P<body>[^{}\n]*)\}[ \t]*$", re.MULTILINE)
_MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(?P<head>\w+)(?P<body>(?:\\\n|[^\n])*)", re.MULTILINE)
_PIECE = re.compile(r"\w+|[^\w\s]")
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
        found = None if self.macro else _declared(self.head)
        if found is None:
            return ()
        names = [""]
        for piece in found[1]:
            if piece == ",":
                names.append("")
            elif _WORD.match(piece):
                names[-1] = piece
        return tuple(names)


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
    (old, old_rest), (new, new_rest) = (_parts(content or b"") for content in (before, after))
    # What is there to the letter before and after is no change, and most of a file is.
    was, now = (
        {(normal(head), normal(body)): each for (head, body), each in ours.items() if (head, body) not in theirs}
        for ours, theirs in ((old, new), (new, old))
    )
    functions = [each for key, each in now.items() if key not in was]
    functions += [each for key, each in was.items() if key not in now]
    left, right = (
        frozenset(map(normal, ours - theirs)) for ours, theirs in ((old_rest, new_rest), (new_rest, old_rest))
    )
    gone, come = sorted(left - right), sorted(right - left)
    before_words, after_words = (Counter(_WORD.findall(" ".join(pieces))) for pieces in (gone, come))
    beside = {*(before_words - after_words), *(after_words - before_words)}
    beside.update(word for piece in (*gone, *come) if "{" not in piece for word in _WORD.findall(piece))
    return Changed(tuple(functions), frozenset(beside))


@lru_cache(maxsize=16)  # what one patch leaves is what the next one finds
def _parts(content: bytes) -> tuple[Mapping[tuple[str, str], Definition], frozenset[str]]:
    """The definitions by how they are written, and what is left."""
    text = without_comments(content.decode("utf-8", "replace"))
    found: dict[tuple[str, str], Definition] = {}
    rest, done = [], 0
    for start, end, each in _placed(text):
        found[each.head, each.body] = each
        rest.append(text[done:start])
        done = end
    return found, frozenset(re.split(r"\n(?=[A-Za-z_#])", "\n".join([*rest, text[done:]])))


def _placed(text: str) -> Iterator[tuple[int, int, Definition]]:
    """(start, end, definition) of each, in order; one inside another, as a macro in a function, belongs to that."""
    every = [*_functions(text)]
    every += [
        (found.start(), found.end(), Definition(found["head"], found["head"], found["body"], True))
        for found in _MACRO.finditer(text)
    ]
    end = 0
    for each in sorted(every, key=lambda each: each[:2]):
        if each[0] >= end:
            end = each[1]
            yield each


def _functions(text: str) -> Iterator[tuple[int, int, Definition]]:
    """The same of functions alone: what stands before a brace, back to the end of whatever comes before it."""
    after, done = 0, 0
    last = text.rfind("\n}")  # no body is closed after it
    for found in _BREAK.finditer(text):
        before, after = after, found.end()
        if found.group() != "{" or found.start() < done:
            continue
        begin = _BEGIN.search(text, before, found.start())
        declared = _declared(text[begin.end() : found.start()]) if begin else None
        if begin is None or declared is None:
            continue
        head = text[begin.end() : found.start()]
        if (body := _BODY.match(text, found.start())) and head.endswith("\n") and last >= body.end() - 1:
            end = text.index("\n}", body.end() - 1) + 1
            head, content, done = head.removesuffix("\n"), text[body.end() : end], end + 1
        elif (line := _IN_A_LINE.match(text, found.start())) and "=" not in head:
            head, content, done = head.rstrip(), line["body"], line.end()
        else:
            continue
        yield begin.start(), done, Definition(declared[0], head, content)


def _declared(head: str) -> tuple[str, list[str]] | None:
    """A function's name and the pieces of its parameters, from what stands before its body; None where that is none.

    Attributes may follow its own brackets: ``__must_hold(lock)``.
    """
    pieces = _PIECE.findall(head)
    end = len(pieces)
    while end:
        if pieces[end - 1] != ")":
            if not pieces[end - 1].startswith("__"):
                return None
            end -= 1
            continue
        start = _opening(pieces, end)
        if start < 1:
            return None
        name = pieces[start - 1]
        if name.startswith("__") and start > 1 and pieces[start - 2] == ")":
            end = start - 1
            continue
        if name == ")" and start > 3 and pieces[start - 3] == "(":  # FNAME(walk_addr)(...)
            name = pieces[start - 2]
        return (name, pieces[start + 1 : end - 1]) if _WORD.match(name) else None
    return None


def _opening(pieces: list[str], end: int) -> int:
    """The place of the bracket that the one before *end* closes; -1 where there is none."""
    depth = 0
    for place in range(end - 1, -1, -1):
        depth += (pieces[place] == ")") - (pieces[place] == "(")
        if not depth:
            return place
    return -1
