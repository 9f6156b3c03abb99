"""One round trip of a trace, and in what it differs from the same one under another kernel.

Takes what ftrace wrote: the function graph, with tracepoints as its comments, or tracepoints alone.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

# A line of the function graph, whatever columns stand before it, and one of a tracepoint by itself.
_GRAPH = re.compile(
    r"^(?:[^|/]*\|)?(?P<indent> *)(?:/\* (?P<event>.*?) \*/|(?P<function>[^\s(]+)(?: \[\w+\])?\(\)(?: \{|;))"
)
_EVENT = re.compile(r"^ *\S.*-\d+ +\[\d+\].*?: (?P<event>kvm\w*: .*)$")
_INDENT = 2
_CALL = "()"
# What begins a round trip: L1's exit that enters L2, else L1's move to another CR3. By the names of 6.1, and of 6.3 on.
_ENTRIES = ("kvm_nested_vmrun:", "kvm_nested_vmenter:")
_MOVES = ("kvm_cr: cr_write 3",)
_EXIT = "kvm_exit:"
# What the host's own timer and its other tasks do, which falls into some round trip or other.
_TICK = re.compile(r"^(?:kvm_exit: .*reason (?:EXTERNAL_INTERRUPT|interrupt|INTR)\b|kvm_sched_(?:in|out)\(\))")
# Addresses of the kernel's own memory, and its page frames, are other ones in each run.
_ADDRESS = re.compile(r"(?:0x)?[0-9a-f]{16}\b|\b(?:pfn|spte|addr|hva) (?:0x)?[0-9a-f]+")
_AROUND = 2  # lines that are alike, around each that is not


@dataclass(frozen=True, slots=True)
class Entry:
    """A call or a tracepoint.

    Attributes:
        depth: of the call, from 0.
        text: the function's name and ``()``, or the tracepoint's own words.
    """

    depth: int
    text: str

    @property
    def alike(self) -> tuple[int, str]:
        """Equal for the same in another run."""
        return self.depth, _ADDRESS.sub("*", self.text)

    def __str__(self) -> str:
        return " " * (_INDENT * self.depth) + self.text


RoundTrip = tuple[Entry, ...]


def entries(lines: Sequence[str]) -> list[Entry]:
    """What a trace's lines say; those that say nothing of the kind are left out."""
    found = []
    for line in lines:
        if line.startswith("#"):
            continue
        if match := _EVENT.match(line):
            found.append(Entry(0, match["event"].strip()))
        elif match := _GRAPH.match(line):
            text = match["event"] or match["function"] + _CALL
            found.append(Entry(len(match["indent"]) // _INDENT, text.strip()))
    return found


def round_trips(trace: Sequence[Entry], *, cut_short: bool = False) -> list[RoundTrip]:
    """The whole round trips of a trace, from one entry of L2 (or move of CR3) to the next.

    Args:
        trace: of several.
        cut_short: the guest failed: its last round trip is what there is of it.
    """
    marks = _marks(trace, _ENTRIES) or _marks(trace, _MOVES)
    ends = [*marks[1:], *([len(trace)] if cut_short else [])]
    return [_shifted(trace[first:end]) for first, end in zip(marks, ends, strict=False)]


def _marks(trace: Sequence[Entry], names: tuple[str, ...]) -> list[int]:
    """Where the exits are that lead to events of these names."""
    marks, exited = [], None
    for place, entry in enumerate(trace):
        if entry.text.startswith(_EXIT):
            exited = place
        elif entry.text.startswith(names) and exited is not None:
            marks.append(exited)
            exited = None
    return marks


def _shifted(part: Sequence[Entry]) -> RoundTrip:
    least = min(entry.depth for entry in part)
    return tuple(Entry(entry.depth - least, entry.text) for entry in part)


def telling(before: Sequence[RoundTrip], after: Sequence[RoundTrip]) -> int | None:
    """Which round trip to look at: the first that differs, without a tick of the host's timer if there is one.

    None where none differs.
    """
    differing = [place for place, (a, b) in enumerate(zip(before, after, strict=False)) if _keys(a) != _keys(b)]
    quiet = [place for place in differing if not any(map(_ticks, (before[place], after[place])))]
    return next(iter([*quiet, *differing]), None)


def _ticks(trip: RoundTrip) -> bool:
    return any(_TICK.match(entry.text) for entry in trip)


def _keys(trip: RoundTrip) -> list[tuple[int, str]]:
    return [entry.alike for entry in trip]


def only(a: RoundTrip, b: RoundTrip) -> dict[str, int]:
    """How many times more often *a* has a function or a tracepoint than *b*, by name."""
    counts = [Counter(entry.text.partition(":")[0] for entry in trip) for trip in (a, b)]
    return dict(counts[0] - counts[1])


def difference(before: RoundTrip, after: RoundTrip) -> Iterator[str]:
    """Both in one, line by line: "-" only before, "+" only after; what is alike is left out but for what is around a
    difference, and for the calls in which that stands."""
    marked = list(_marked(before, after))
    shown = _shown(marked)
    last = -1
    for place in sorted(shown):
        if left := place - last - 1:
            yield f"    ... {left} alike"
        last = place
        mark, entry = marked[place]
        yield f"{mark} {entry}"
    if left := len(marked) - last - 1:
        yield f"    ... {left} alike"


def concerned(before: RoundTrip, after: RoundTrip) -> list[str]:
    """The functions to read about a difference: those that call what differs, and what of that they call."""
    found: dict[str, None] = {}
    above: list[tuple[str, Entry]] = []  # the calls in which a line stands
    for mark, entry in _marked(before, after):
        if not entry.text.endswith(_CALL):
            continue
        while above and above[-1][1].depth >= entry.depth:
            above.pop()
        if mark != " " and not (above and above[-1][0] != " "):
            found |= dict.fromkeys(other.text.removesuffix(_CALL) for _, other in above[-1:])
            found[entry.text.removesuffix(_CALL)] = None
        above.append((mark, entry))
    return list(found)


def _marked(before: RoundTrip, after: RoundTrip) -> Iterator[tuple[str, Entry]]:
    matcher = SequenceMatcher(None, _keys(before), _keys(after), autojunk=False)
    for kind, a, a_end, b, b_end in matcher.get_opcodes():
        if kind == "equal":
            yield from ((" ", entry) for entry in after[b:b_end])
        else:
            yield from (("-", entry) for entry in before[a:a_end])
            yield from (("+", entry) for entry in after[b:b_end])


def _shown(marked: Sequence[tuple[str, Entry]]) -> set[int]:
    shown: set[int] = set()
    for place, (mark, entry) in enumerate(marked):
        if mark == " ":
            continue
        shown |= set(range(max(0, place - _AROUND), min(len(marked), place + _AROUND + 1)))
        depth = entry.depth
        for above in range(place - 1, -1, -1):
            other = marked[above][1]
            if other.depth < depth and other.text.endswith(_CALL):
                depth = other.depth
                shown.add(above)
    return shown
