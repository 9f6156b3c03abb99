"""What compilers and the kernel's own checkers complain of in a build, in a form in which two builds can be compared.

The same warning stands at another line after every patch, so lines and addresses do not count: a complaint is its file,
its function and its words.

Source: GCC's diagnostics as -fdiagnostics-plain-output writes them; scripts/kernel-doc; tools/objtool/warn.h;
scripts/mod/modpost.c.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from posixpath import normpath

_WHERE = re.compile(r"^(?P<file>[\w./+-]+): (?:In (?:member )?function '(?P<function>[^']+)'|At top level)[,:]")
_SAID = re.compile(r"^(?P<file>[\w./+-]+):(?:\d+:)* *(?P<kind>warning|error|fatal error): (?P<words>.*)$")
_LINKED = re.compile(r"^(?:\S*\bld(?:\.\w+)?: )?(?P<file>[\w./+-]+):.*?(?P<words>undefined reference to .*)$")
_MODPOST = re.compile(r"^(?P<kind>WARNING|ERROR): (?P<words>.*)$")
_MAKE = re.compile(r"^make(?:\[\d+\])?: \*\*\* (?:\[[^\]:]*(?::\d+)?: (?P<target>[^\]]*)\] )?(?P<words>.*)$")
# Below a complaint: the line of the source and the marks under it.
_QUOTED = re.compile(r"^ *\d* *\|")
_ADDRESS = re.compile(r"\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?")
_AS_ERROR = re.compile(r"\[-Werror=")
# The quotes are those of the user's locale, or of whoever filled the compiler cache.
_QUOTES = str.maketrans("‘’", "''")
_KVM = "arch/x86/kvm/"


@dataclass(frozen=True, slots=True)
class Complaint:
    """One complaint; two are equal when they are the same but for where they stand.

    Attributes:
        file: by path in the tree; empty where none is named.
        function: empty outside of functions, and where none is named.
        words: without line numbers and addresses.
        error: nothing came of what is complained of.
        lines: as they were written.
    """

    file: str
    function: str
    words: str
    error: bool = field(default=False, compare=False)
    lines: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        place = ", in ".join(filter(None, (self.file.removeprefix(_KVM), self.function and f"{self.function}()")))
        return f"{place}: {self.words}" if place else self.words


def complaints(lines: Iterable[str]) -> list[Complaint]:
    """Every complaint of a build, each once; of one that failed without any, what make says."""
    every = [line.translate(_QUOTES) for line in lines]
    found = list(_complaints(every)) or [
        Complaint("", "", f"{match['target'] or ''} {match['words']}".strip(), True, (line,))
        for line in every
        if (match := _MAKE.match(line))
    ]
    return list(dict.fromkeys(found))


def new(before: Sequence[Complaint], after: Sequence[Complaint]) -> list[Complaint]:
    """The complaints that there were not before, errors first."""
    known = set(before)
    return sorted((each for each in after if each not in known), key=lambda each: not each.error)


def _complaints(lines: Sequence[str]) -> Iterator[Complaint]:
    functions: dict[str, str] = {}  # by file, the function that the compiler is in
    for number, line in enumerate(lines):
        if where := _WHERE.match(line):
            functions[where["file"]] = where["function"] or ""
        elif said := _SAID.match(line) or _LINKED.match(line) or _MODPOST.match(line):
            groups = said.groupdict()
            file = groups.get("file") or ""
            end = number + 1
            while end < len(lines) and _QUOTED.match(lines[end]):
                end += 1
            words = _AS_ERROR.sub("[-W", _ADDRESS.sub("", groups["words"]))
            error = "warning" not in groups.get("kind", "").lower()
            yield Complaint(
                normpath(file) if file else "", functions.get(file, ""), words, error, tuple(lines[number:end])
            )
