"""Reads ``unittests.cfg``: which images a tree of kvm-unit-tests has, and what each of its tests asks of a machine.

Sections in brackets, a key and its value a line. Values are words of a shell, whose quotes are read and whose
substitutions are not made.
Source: kvm-unit-tests, docs/unittests.txt.
"""

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_SECTION = re.compile(r"\[(.*)\]\s*$")
_KEY = re.compile(r"(\w+)\s*=\s*(.*?)\s*$")
_TRIPLE = '"""'
_TIME = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)$")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_IGNORED = ("machine", "kvmtool_params")  # of other architectures, and of another VMM
DEFAULT_TIMEOUT_S = 90.0


@dataclass(slots=True)
class Entry:
    """A section.

    Attributes:
        name: in the brackets.
        file: name of the image.
        smp: number of vCPUs.
        args: the test's command line, without the image's name.
        options: QEMU's, as words.
        groups: what it belongs to.
        arch: the only architecture that it is for; empty for any.
        checks: what files of the host must say, as (path, value).
        accel: the only accelerator that it is for; empty for any.
        timeout_s: seconds.
        wrong: the first value that cannot be read; empty when all can.
        notes: what was left out of account.
    """

    name: str
    file: str = ""
    smp: int = 1
    args: str = ""
    options: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    arch: str = ""
    checks: tuple[tuple[str, str], ...] = ()
    accel: str = ""
    timeout_s: float = DEFAULT_TIMEOUT_S
    wrong: str = ""
    notes: list[str] = field(default_factory=list)


def read(text: str) -> list[Entry]:
    """All entries, in order. A name that comes again has a number behind it, as in ``pcid#2``."""
    entries: list[Entry] = []
    times: dict[str, int] = {}
    for line, key, value in _pairs(text):
        if not key:
            times[value] = times.get(value, 0) + 1
            entries.append(Entry(value if times[value] == 1 else f"{value}#{times[value]}"))
        elif not entries:
            entries.append(Entry("", wrong=f"line {line} stands in no section"))
        else:
            _take(entries[-1], key, value)
    return [entry for entry in entries if entry.name]


def _pairs(text: str) -> Iterator[tuple[int, str, str]]:
    """Line number, key and value; the name of a section has an empty key."""
    lines = enumerate(text.splitlines(), start=1)
    for number, line in lines:
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if found := _SECTION.match(line):
            yield number, "", found[1].strip()
        elif found := _KEY.match(line):
            value = found[2]
            if value.startswith(_TRIPLE):
                value = _several(value.removeprefix(_TRIPLE), lines)
            yield number, found[1], value
        else:
            yield number, line, ""


def _several(first: str, lines: Iterable[tuple[int, str]]) -> str:
    """A value between three quotes, which may go over several lines."""
    taken = [first]
    while _TRIPLE not in taken[-1]:
        following = next(iter(lines), None)
        if following is None:
            break
        taken[-1] = taken[-1].removesuffix("\\")
        taken.append(following[1])
    return "\n".join(taken).partition(_TRIPLE)[0]


def _take(entry: Entry, key: str, value: str) -> None:
    """Makes a line part of an entry."""
    try:
        match key:
            case "file" | "arch" | "accel":
                setattr(entry, key, value)
            case "smp":
                entry.smp = _count(value)
            case "test_args":
                entry.args = " ".join(shlex.split(value))
            case "qemu_params" | "extra_params":  # the newer name and the older one
                entry.options = tuple(shlex.split(value))
            case "groups":
                entry.groups = tuple(value.split())
            case "check":
                entry.checks = tuple(map(_check, value.split()))
            case "timeout":
                entry.timeout_s = _seconds(value)
            case "disabled_if":
                raise ValueError("a shell's condition is not evaluated")
            case _ if key not in _IGNORED:
                entry.notes.append(f"{key!r} is no key that is known, and is left out of account")
    except ValueError as error:
        entry.wrong = entry.wrong or f"its line {key} = {value} cannot be acted on: {error}"


def _count(value: str) -> int:
    if not value.isdecimal() or not int(value):
        raise ValueError("a number of processors is expected")
    return int(value)


def _check(word: str) -> tuple[str, str]:
    path, equals, wanted = word.partition("=")
    if not equals:
        raise ValueError(f"{word!r} is not of the form path=value")
    return path, wanted


def _seconds(value: str) -> float:
    found = _TIME.match(value)
    if not found:
        raise ValueError("a time is expected, such as 90s")
    return float(found[1]) * _SECONDS[found[2]] or DEFAULT_TIMEOUT_S
