"""Claims against a record: each one answered PASS, FAIL, INCONCLUSIVE or SKIPPED, with the figures."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import TypeVar

from kvmharness.cells.labels import cell_of, label
from kvmharness.cells.language import WILDCARDS
from kvmharness.claims.findings import Finding, answer, shown
from kvmharness.claims.metrics import SURVIVING, Missing, expand, telling, value
from kvmharness.claims.vocabulary import Check, Claim
from kvmharness.measure.clock import UNIT_EMULATED
from kvmharness.results import noise as stats
from kvmharness.results.record import CellKey, CellResult, Record
from kvmharness.results.verdict import ClaimResult, Outcome

Key = TypeVar("Key")
Runs = stats.Runs
_ONE_SIDED = (Check.LOWER, Check.NOT_HIGHER)


def evaluate(claims: Iterable[Claim], record: Record, judged: Collection[str] | None = None) -> list[ClaimResult]:
    """Answers every claim.

    Args:
        claims: to answer.
        record: the figures.
        judged: the variants that a pattern may mean; others are reached by their whole name only. All without.
    """
    results = Results(record, judged)
    return [answer(claim.name, claim.text, findings(claim, results)) for claim in claims]


class Results:
    """A record's results, by what claims select them. See :func:`evaluate` for the arguments."""

    def __init__(self, record: Record, judged: Collection[str] | None = None) -> None:
        self.record = record
        self.judged = [v.name for v in record.variants if judged is None or v.name in judged]
        self.views = {variant.name: variant.oracle for variant in record.variants}
        self.exact = record.unit == UNIT_EMULATED
        self._by_variant: dict[tuple[CellKey, str], list[CellResult]] = {}
        for result in sorted(record.results, key=lambda result: result.turn):
            if result.skipped is None:
                self._by_variant.setdefault((result.key, result.variant), []).append(result)
        self.labelled = [(label(cell_of(result), record.host), result) for result in record.results]

    def selected(self, claim: Claim) -> list[tuple[str, CellResult]]:
        """What a claim is about and what ran."""
        return [(cell, result) for cell, result in self.labelled if claim.covers(cell) and result.skipped is None]

    def skipped(self, claim: Claim) -> str:
        """Why the claim's cells did not run, or that there are none."""
        why = {result.skipped for cell, result in self.labelled if claim.covers(cell) and result.skipped}
        return "; ".join(sorted(why)) if why else f"no cell of this run matches {', '.join(claim.cells)}"

    def cells(self, claim: Claim) -> dict[CellKey, str]:
        """The selected cells, each once, with its label."""
        return {result.key: cell for cell, result in self.selected(claim)}

    def of(self, key: CellKey, variant: str) -> list[CellResult]:
        """All turns of one cell under one variant."""
        return self._by_variant.get((key, variant), [])

    def matching(self, pattern: str) -> list[str]:
        """The names of the variants that a pattern means."""
        if WILDCARDS.isdisjoint(pattern):
            return [variant.name for variant in self.record.variants if variant.name == pattern]
        return [name for name in self.judged if fnmatchcase(name, pattern)]

    def pairs(self, claim: Claim) -> list[tuple[str, str]]:
        """The pairs of variants that a claim compares."""
        found = [
            (before, after)
            for first, last in claim.pairs
            for before in self.matching(first)
            for after in self.matching(last)
            if before != after
        ]
        return list(dict.fromkeys(found))


def findings(claim: Claim, results: Results) -> list[Finding]:
    """The comparisons that a claim consists of."""
    if not results.selected(claim):
        return [Finding(Outcome.SKIPPED, "", results.skipped(claim)), *_kernel_log(claim, results)]
    if claim.metric == "time":
        found = list(_time(claim, results))
    elif claim.check.compares:
        found = list(_between(claim, results))
    else:
        found = [*_each(claim, results), *_kernel_log(claim, results)]
    if found:
        return found
    wanted = ", ".join(claim.variants if not claim.check.compares else [f"{a}->{b}" for a, b in claim.pairs])
    return [Finding(Outcome.SKIPPED, "", f"this run has no variants {wanted}")]


def _each(claim: Claim, results: Results) -> Iterator[Finding]:
    """Claims about each variant by itself: every turn must fulfil them."""
    names = {name for pattern in claim.variants for name in results.matching(pattern)}
    chosen = [(cell, result) for cell, result in results.selected(claim) if result.variant in names]
    metrics = expand(claim.metric, (result for _, result in chosen))
    for cell, result in chosen:
        for metric in metrics:
            if claim.check is Check.EQUAL_TO_ORACLE and result.predicted is None and result.error is None:
                yield _unpredicted(claim, cell, result, results)
            else:
                yield _judged(claim, cell, result, metric)


def _unpredicted(claim: Claim, cell: str, result: CellResult, results: Results) -> Finding:
    view = results.views.get(result.variant)
    if view is None or view.features is not None:
        line = f"{cell} {result.variant}: the oracle made no prediction"
        return Finding(Outcome.INCONCLUSIVE, cell, line, result.variant)
    outcome = Outcome.SKIPPED if claim.where_described else Outcome.INCONCLUSIVE
    return Finding(
        outcome, cell, f"{result.variant}: the oracle {view.oracle} does not describe it: {view.why}", result.variant
    )


def _judged(claim: Claim, cell: str, result: CellResult, metric: str) -> Finding:
    where = f"{cell} {result.variant}: {metric}"
    total = value(metric, result)
    if isinstance(total, Missing):
        return Finding(Outcome.INCONCLUSIVE, cell, f"{where}: {total.why}", result.variant)
    if claim.check is Check.EQUAL_TO_ORACLE:
        assert result.predicted is not None  # else _unpredicted
        wanted = Fraction(getattr(result.predicted, metric))
        seen, unit = Fraction(total), f"in {result.round_trips} round trips, predicted"
        good = seen == wanted
    else:
        assert claim.value is not None  # the vocabulary sees to it
        wanted = claim.value
        seen, unit = _scaled(claim, metric, total, result), "claimed"
        good = seen == wanted if claim.check is Check.EXACTLY else seen <= wanted
        unit += "" if claim.check is Check.EXACTLY else " at most"
    detail = f"; first: {telling(result.dmesg)[0]}" if metric == "dmesg" and total else ""
    detail = f"; {result.error.type}: {result.error.message}" if metric == "errors" and result.error else detail
    line = f"{where} {shown(seen)}, {unit} {shown(wanted)}{detail}"
    return Finding(Outcome.PASS if good else Outcome.FAIL, cell, line, result.variant)


def _kernel_log(claim: Claim, results: Results) -> Iterator[Finding]:
    """What the kernel said outside any cell, while modules were loaded or unloaded for instance."""
    if claim.metric != "dmesg" or claim.check.compares or claim.value is None:
        return
    lines = telling(results.record.dmesg)
    if len(lines) > claim.value:
        yield Finding(Outcome.FAIL, "", f"the kernel log gained {len(lines)} lines; first: {lines[0]}")


def _between(claim: Claim, results: Results) -> Iterator[Finding]:
    """Counts of one variant against another's: every turn of one against every turn of the other."""
    for key, cell in results.cells(claim).items():
        for before, after in results.pairs(claim):
            a, b = results.of(key, before), results.of(key, after)
            if not a or not b:
                continue
            failed = next((result for result in (*a, *b) if result.error), None)
            if failed and claim.metric not in SURVIVING:
                yield Finding(Outcome.INCONCLUSIVE, cell, _failed(cell, before, after, failed), after)
                continue
            for metric in expand(claim.metric, [*a, *b]):
                yield _pair(claim, cell, metric, (before, a), (after, b))


def _failed(cell: str, before: str, after: str, result: CellResult) -> str:
    assert result.error is not None
    return f"{cell} {before}->{after}: cannot be judged, {result.variant} failed ({result.error.type})"


def _pair(
    claim: Claim, cell: str, metric: str, first: tuple[str, list[CellResult]], second: tuple[str, list[CellResult]]
) -> Finding:
    (before, a), (after, b) = first, second
    where = f"{cell} {before}->{after}: {metric}"
    figures: list[list[Fraction]] = []
    for side in (a, b):
        figures.append([])
        for result in side:
            total = value(metric, result)
            if isinstance(total, Missing):
                return Finding(Outcome.INCONCLUSIVE, cell, f"{where}: {result.variant}: {total.why}", after)
            figures[-1].append(_scaled(claim, metric, total, result))
    x, y = max(
        ((x, y) for x in figures[0] for y in figures[1]),
        key=lambda pair: pair[1] - pair[0] if claim.check in _ONE_SIDED else abs(pair[1] - pair[0]),
    )
    if claim.check is Check.LOWER:
        good = y < x and y <= x * (1 - claim.at_least)
        wanted = f"at least {float(claim.at_least):.1%} lower" if claim.at_least else "lower"
    elif claim.check is Check.NOT_HIGHER:
        good = y <= x + claim.tolerance
        wanted = "no more" + (f" than {shown(claim.tolerance)} above" if claim.tolerance else "")
    else:
        good = abs(y - x) <= claim.tolerance
        wanted = "equal" if not claim.tolerance else f"equal to within {shown(claim.tolerance)}"
    line = f"{where} {shown(x)} -> {shown(y)}, claimed {wanted}"
    return Finding(Outcome.PASS if good else Outcome.FAIL, cell, line, after)


def _time(claim: Claim, results: Results) -> Iterator[Finding]:
    """Time per round trip. All comparisons of a claim share their noise floor and the correction for their number."""
    runs: dict[tuple[str, str, str], tuple[list[tuple[float, ...]], list[tuple[float, ...]]]] = {}
    for key, cell in results.cells(claim).items():
        for before, after in results.pairs(claim):
            a, b = results.of(key, before), results.of(key, after)
            if not a or not b:
                continue
            if lost := next((result for result in (*a, *b) if result.error or not result.samples), None):
                untimed = f"{cell} {before}->{after}: time: {lost.variant} has no samples"
                why = _failed(cell, before, after, lost) if lost.error else untimed
                yield Finding(Outcome.INCONCLUSIVE, cell, why, after)
                continue
            runs[cell, before, after] = ticks(a), ticks(b)
    tolerance = float(claim.tolerance) or (0.0 if results.exact else stats.TOLERANCE)
    compared = judge_times(runs, results.record, tolerance)
    for (cell, before, after), comparison in compared.items():
        line = (
            f"{cell} {before}->{after}: time {comparison.median_a:.0f} -> {comparison.median_b:.0f} "
            f"{results.record.unit} per round trip: {comparison.reason}"
        )
        yield Finding(_time_outcome(claim, comparison, tolerance), cell, line, after)


def _time_outcome(claim: Claim, comparison: stats.Comparison, tolerance: float) -> Outcome:
    if claim.check is Check.NOT_HIGHER:
        return not_higher(comparison, tolerance)
    if comparison.outcome is stats.Outcome.INCONCLUSIVE:
        return Outcome.INCONCLUSIVE
    if claim.check is Check.UNCHANGED:
        return Outcome.PASS if comparison.outcome is stats.Outcome.SAME else Outcome.FAIL
    lower = comparison.outcome is stats.Outcome.LOWER and -comparison.change >= claim.at_least
    return Outcome.PASS if lower else Outcome.FAIL


def judge_times(runs: Mapping[Key, tuple[Runs, Runs]], record: Record, tolerance: float) -> dict[Key, stats.Comparison]:
    """Pairs of times, exactly or by the statistics, whichever the record's unit allows."""
    if record.unit == UNIT_EMULATED:
        return {key: stats.judge_exact(a, b, tolerance=tolerance) for key, (a, b) in runs.items()}
    return stats.judge_all(runs, tolerance=tolerance)


def not_higher(comparison: stats.Comparison, tolerance: float) -> Outcome:
    """Whether a time is not longer: decided as soon as the interval's upper end says so, wherever its lower end is."""
    if comparison.outcome is stats.Outcome.HIGHER:
        return Outcome.FAIL
    return Outcome.PASS if comparison.interval.high <= tolerance else Outcome.INCONCLUSIVE


def ticks(turns: list[CellResult]) -> list[tuple[float, ...]]:
    """The samples of each turn."""
    return [result.ticks_per_round_trip for result in turns]


def _scaled(claim: Claim, metric: str, total: int, result: CellResult) -> Fraction:
    """A figure as the claim speaks of it. What is no event of a round trip is never divided."""
    whole = not claim.per_round_trip or metric in SURVIVING or not result.round_trips
    return Fraction(total) if whole else Fraction(total, result.round_trips)
