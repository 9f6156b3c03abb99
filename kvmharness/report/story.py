"""What a page tells first: the answer in a sentence, and what each patch of the series does."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath

from kvmharness.cells.labels import cell_of, label
from kvmharness.report import words
from kvmharness.report.rows import LOADS, ran, rows
from kvmharness.report.tests import outcome_of
from kvmharness.results import noise as stats
from kvmharness.results.compare import CellComparison, compare_variants
from kvmharness.results.record import CellKey, Record, VariantId
from kvmharness.results.verdict import Outcome, Verdict, listed

_NAMED = 4  # claims that are named
_WORDS = {
    Outcome.FAIL: "fail",
    Outcome.INCONCLUSIVE: "could not be judged",
    Outcome.PASS: "are as they must be",
    Outcome.SKIPPED: "skipped",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One figure that a patch changes.

    Attributes:
        better: it is lower than before.
        text: the figure, and its largest change.
        cells: all in which it changes, the largest change first.
    """

    better: bool
    text: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """What one more patch does to the kernel before it, or several where not every prefix ran.

    Attributes:
        names: the patches: "p2", or "p2-3".
        titles: of them.
        changes: of root loads and time; empty where it changes nothing.
        compared: there is a cell with figures before and after.
    """

    names: str
    titles: tuple[str, ...]
    changes: tuple[Change, ...]
    compared: bool


def sentence(records: Sequence[Record], verdict: Verdict | None) -> str:
    """The answer, and what it rests on."""
    partial = " The run was cut short, so this is not all of it." if any(record.partial for record in records) else ""
    if verdict is None:
        return _of_runs(records) + partial
    names = {outcome: [claim.name for claim in verdict.claims if claim.outcome is outcome] for outcome in Outcome}
    holding, unchecked = len(names[Outcome.PASS]), len(names[Outcome.SKIPPED])
    holds = "claim holds" if holding == 1 else "claims hold"
    undecided = names[Outcome.INCONCLUSIVE]
    told = {
        Outcome.PASS: f"With the series nothing is worse than without it; {holding} {holds}",
        Outcome.FAIL: f"{_capital(verdict.broken or f'it fails {listed(names[Outcome.FAIL], _NAMED)}')}; "
        f"{holding} {holds}",
        Outcome.INCONCLUSIVE: f"The figures allow no answer: {holding} {holds}",
        Outcome.SKIPPED: "Nothing could be compared here",
    }[verdict.outcome]
    if undecided:
        told += f", {len(undecided)} {'is' if len(undecided) == 1 else 'are'} undecided ({listed(undecided, _NAMED)})"
    return f"{told}{f', {unchecked} not checked' if unchecked else ''}.{partial}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def subject(record: Record) -> str:
    """What a run without a verdict is about: the series whose validation was cut short, or nothing but this kernel."""
    validation = record.command[1:2] == ("validate",) and len(record.command) > 2
    return PurePath(record.command[2]).name if validation else "KVM run"


def _of_runs(records: Sequence[Record]) -> str:
    counts = Counter(row.outcome for record in records for row in rows(record))
    counts.update(outcome_of(test) for record in records for test in record.tests)
    told = ", ".join(f"{counts[outcome]} {word}" for outcome, word in _WORDS.items() if counts[outcome])
    what = "tests" if not any(record.results for record in records) else "cells and variants"
    return f"Of {counts.total()} {what}: {told}." if told else "Nothing was run."


def chain(record: Record) -> list[VariantId]:
    """The variants that are the kernel with none, one, two, ... of the patches: each one patch more than before."""
    whole = max((variant.patches for variant in record.variants), key=len, default=())
    found = {len(each.patches): each for each in record.variants if each.patches == whole[: len(each.patches)]}
    return [found[count] for count in sorted(found)]


def steps(record: Record) -> list[Step]:
    """What each patch does, held against the kernel before it."""
    labels = {result.key: label(cell_of(result), record.host) for result in record.results}
    there = ran(record)
    variants = [each for each in chain(record) if each.name in there]
    found = []
    for before, after in pairwise(variants):
        first, last = len(before.patches) + 1, len(after.patches)
        names = f"p{first}" if first == last else f"p{first}-{last}"
        cells = _compared(record, before.name, after.name)
        found.append(Step(names, after.patches[len(before.patches) :], _changes(cells, labels), bool(cells)))
    return found


def _compared(record: Record, before: str, after: str) -> list[CellComparison]:
    """The cells that have figures under both."""
    has = [result for result in record.results if result.samples or result.counts]
    sides = [{result.key for result in has if result.variant == name} for name in (before, after)]
    if not sides[0] & sides[1]:
        return []
    compared = compare_variants(record, before, after, tolerance=words.tolerance(record))
    return [cell for cell in compared.cells if cell.key in sides[0] & sides[1]]


def _changes(cells: Sequence[CellComparison], labels: dict[CellKey, str]) -> tuple[Change, ...]:
    loads: list[tuple[float, float, str]] = []
    times: list[tuple[float, float, str]] = []
    for cell in cells:
        name = labels[cell.key]
        loads += [(float(each.a), float(each.b), name) for each in cell.changed if each.name == LOADS]
        if cell.time and cell.time.outcome in (stats.Outcome.LOWER, stats.Outcome.HIGHER):
            times.append((cell.time.median_a, cell.time.median_b, name))
    changes = []
    for better in (True, False):
        for pairs, told in ((loads, _loads), (times, _time)):
            of_kind = [pair for pair in pairs if (pair[1] < pair[0]) is better]
            of_kind.sort(key=lambda pair: -abs(pair[1] - pair[0]) / (1 if told is _loads else pair[0]))
            if of_kind:
                changes.append(Change(better, told(*of_kind[0]), tuple(name for *_, name in of_kind)))
    return tuple(changes)


def _loads(before: float, after: float, cell: str) -> str:
    size, way = words.amount(abs(after - before)), "fewer" if after < before else "more"
    return f"root loads: {size} {way} a round trip ({cell} {_arrow(words.amount(before), words.amount(after))})"


def _time(before: float, after: float, cell: str) -> str:
    change = words.percent(after, before).replace("-", "−")
    return f"time: {change} ({cell} {_arrow(words.ticks(before), words.ticks(after))})"


def _arrow(before: str, after: str) -> str:
    """Not to be broken over two lines."""
    return f"{before}\N{NO-BREAK SPACE}→\N{NO-BREAK SPACE}{after}"
