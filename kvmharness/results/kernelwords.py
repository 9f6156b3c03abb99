"""What a kernel says when something is wrong, found in its log: one report each, with what a developer looks for first.

Source: kernel/panic.c (__warn, print_oops_end_marker, panic), arch/x86/kernel/dumpstack.c (show_trace_log_lvl,
__show_regs), arch/x86/mm/fault.c (show_fault_oops), lib/bug.c (__report_bug), kernel/locking/lockdep.c,
mm/slub.c (slab_bug).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_STAMP = re.compile(r"^(?:<\d+>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?")
_BEGINNINGS = (
    ("panic", re.compile(r"Kernel panic - not syncing")),
    ("KASAN", re.compile(r"BUG: KASAN:")),
    ("lockup", re.compile(r"(?:watchdog: )?BUG: (?:soft|hard) lockup|rcu: INFO: .* detected (?:expedited )?stalls?")),
    (
        "lockdep",
        re.compile(
            r"WARNING: (?:possible|bad|suspicious|inconsistent|Nested|held|lock|.* still has locks held)|"
            r"\[ BUG: |INFO: trying to register non-static key"
        ),
    ),
    ("WARNING", re.compile(r"WARNING: ")),
    ("BUG", re.compile(r"kernel BUG at |BUG: |BUG \S+ \(.*\): ")),
    ("UBSAN", re.compile(r"UBSAN: ")),
    ("oops", re.compile(r"general protection fault|Oops: |[a-z][a-z -]*: [0-9a-f]{4} \[#\d+\]")),
    ("hung task", re.compile(r"INFO: task .* blocked for more than")),
)
_CUT = "------------[ cut here ]------------"
_END = re.compile(r"---\[ end (?:trace|Kernel panic)")
_PLACE = re.compile(r"\b((?:[\w.-]+/)*[\w-]+\.[chS]:\d+)")
_RIP = re.compile(r"RIP: \w+:(\S+(?: \[\w+\])?)")
_FRAME = re.compile(r"^ *(\? )?([\w.]+\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[\w+\])?)$")
_MOST = 400  # lines of one report: an oops has some sixty, lockdep a few hundred


@dataclass(frozen=True, slots=True)
class Words:
    """One report.

    Attributes:
        kind: panic, oops, BUG, WARNING, lockdep, KASAN, UBSAN, lockup, hung task.
        headline: its first sentence, without the time stamp.
        place: file and line, where it says so.
        rip: function and offset at which it happened.
        trace: the functions that led there, the last called first, without those that the unwinder doubts.
        text: all of its lines.
    """

    kind: str
    headline: str
    place: str
    rip: str
    trace: tuple[str, ...]
    text: tuple[str, ...]


def reports(lines: Iterable[str]) -> tuple[Words, ...]:
    """The reports in a kernel's log, or on its console, in order.

    Args:
        lines: with or without time stamps.
    """
    return tuple(_words(text) for text in _pieces([_STAMP.sub("", line) for line in lines]))


def _pieces(lines: list[str]) -> Iterator[list[str]]:
    """The lines of each report; what lies between reports is left out."""
    piece: list[str] = []
    for line in lines:
        begins = line == _CUT or (_kind(line) and not _goes_on(piece, line))
        if begins or len(piece) >= _MOST:
            if any(map(_kind, piece)):
                yield piece
            piece = [line] if begins else []
        elif piece:
            piece.append(line)
        if piece and _END.search(line):
            if any(map(_kind, piece)):
                yield piece
            piece = []
    if any(map(_kind, piece)):
        yield piece


def _goes_on(piece: list[str], line: str) -> bool:
    """Whether a line that could begin a report belongs to the one that is open: an oops says what it is twice."""
    return bool(piece) and _kind(line) != "panic"


def _kind(line: str) -> str:
    return next((kind for kind, begins in _BEGINNINGS if begins.match(line)), "")


def _words(text: list[str]) -> Words:
    first = next(line for line in text if _kind(line))
    said = next((line for line in text if line and line != _CUT and not line.startswith("=====")), first)
    places = (found[1] for line in text[:8] if (found := _PLACE.search(line)))
    rips = (found[1] for line in text if (found := _RIP.search(line)))
    return Words(
        kind=_kind(first),
        headline=said if said == first else f"{said} ({first})",
        place=next(places, ""),
        rip=next(rips, ""),
        trace=tuple(_trace(text)),
        text=tuple(text),
    )


def _trace(text: list[str]) -> Iterator[str]:
    """The frames behind the first "Call Trace:"."""
    started = False
    for line in text:
        if line.strip() == "Call Trace:" and started:
            return
        started = started or line.strip() == "Call Trace:"
        found = _FRAME.match(line) if started else None
        if found and not found[1]:
            yield found[2]
