"""The safety net, in force for every series whatever it claims itself: with it, nothing is worse than without it.

Each row compares the variants that are judged with the kernel without the series, cell by cell, and one-sided: what is
better is no failure but an effect. What gets worse in a cell is told by the row nearest to its cause: a cell that fails
by its root loads does not fail by its time as well.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from kvmharness.cells.judge import PollutedError
from kvmharness.claims import litmus
from kvmharness.claims.debugkernel import quiet
from kvmharness.claims.effects import Effect
from kvmharness.claims.evaluate import Results, judge_times, not_higher, ticks
from kvmharness.claims.findings import Finding, answer, shown
from kvmharness.claims.leaks import leaks
from kvmharness.claims.metrics import Missing, expand, form, telling, value
from kvmharness.claims.suites import held
from kvmharness.claims.waivers import Waived
from kvmharness.guest.failures import StaleTranslation
from kvmharness.results import noise as stats
from kvmharness.results.kernelwords import reports
from kvmharness.results.record import CellKey, CellResult
from kvmharness.results.tests import BUILDS, LITMUS, SELFTESTS, UNIT_TESTS, TestResult
from kvmharness.results.verdict import CELLS_RUN, KERNEL_WELL, NO_MORE_WORK, OTHERS_TESTS, ClaimResult, Outcome

EXACT = Fraction(0)
ROOM = Fraction(1, 20)  # events per round trip: what a timer's interrupt drags along is no change
TIME_EMULATED = 0.01

Find = Callable[["Net"], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the net.

    Attributes:
        name: short and stable; a series waives it by this name.
        text: as a sentence.
        find: gives its findings.
        things: what they are about.
        group: what the row is about, for reports.
    """

    name: str
    text: str
    find: Find
    things: str = "cells"
    group: str = NO_MORE_WORK


@dataclass
class Net:
    """The net, thrown over one record.

    Attributes:
        results: the record's.
        base: the name of the variant without the series.
        waived: what the series asked for.
        worse: (cell, variant) that a row has failed: rows behind it have nothing to add there.
        effects: what is better.
    """

    results: Results
    base: str
    waived: Waived
    worse: set[tuple[str, str]] = field(default_factory=set)
    effects: list[Effect] = field(default_factory=list)

    @property
    def variants(self) -> list[str]:
        """Those that are judged against the base."""
        return [name for name in self.results.judged if name != self.base]

    @property
    def cells(self) -> dict[CellKey, str]:
        """Every cell of the record with its label."""
        return {result.key: cell for cell, result in self.results.labelled}

    def answers(self) -> list[ClaimResult]:
        """Every row, answered, in the order of causes."""
        return [self._answer(row) for row in ROWS]

    def _answer(self, row: Row) -> ClaimResult:
        found = [self.waived.applied(row.name, finding) for finding in row.find(self)]
        self.worse |= {(each.cell, each.variant) for each in found if each.outcome is Outcome.FAIL}
        held = {each.cell for each in found if each.outcome is Outcome.PASS and each.cell}
        figures = [f"{len(held)} {row.things}, {self.base} against {', '.join(self.variants)}"] if held else []
        nothing = [Finding(Outcome.SKIPPED, "", f"nothing ran that could be compared with {self.base}")]
        return answer(row.name, row.text, found or nothing, figures=figures, group=row.group)

    def pairs(self) -> Iterator[tuple[str, str, list[CellResult], list[CellResult]]]:
        """Cell, variant, all turns without the series and all turns with it, where both have figures."""
        for key, cell in self.cells.items():
            before = self.results.of(key, self.base)
            for variant in self.variants:
                after = self.results.of(key, variant)
                whole = before and after and not any(result.error for result in (*before, *after))
                if whole and (cell, variant) not in self.worse:
                    yield cell, variant, before, after


def _present(net: Net) -> Iterator[Finding]:
    """A cell that ran without the series has a result under every variant."""
    for key, cell in net.cells.items():
        turns = len(net.results.of(key, net.base))
        for variant in net.variants if turns else ():
            there = len(net.results.of(key, variant))
            outcome = Outcome.PASS if there >= turns else Outcome.INCONCLUSIVE
            yield Finding(outcome, cell, f"{cell} {variant}: {there} of {turns} results" * (there < turns), variant)
    if net.results.record.partial:
        yield Finding(Outcome.INCONCLUSIVE, "", net.results.record.partial)


def _work(net: Net) -> Iterator[Finding]:
    """What KVM's MMU does in a steady state; a cell that does not even come to one has no figures."""
    yield from _failing(_polluted)(net)
    yield from _no_more("MMU work", _mmu_work, ROOM)(net)


def _stale(result: CellResult) -> bool:
    named = result.error is not None and result.error.type == StaleTranslation.__name__
    return named or result.probes.failures > 0


def _polluted(result: CellResult) -> bool:
    return result.error is not None and result.error.type == PollutedError.__name__


def _failing(fails: Callable[[CellResult], bool]) -> Find:
    """A row about cells that have no figures: it is a variant's fault unless the kernel without the series has it."""

    def find(net: Net) -> Iterator[Finding]:
        for key, cell in net.cells.items():
            broken = any(fails(result) for result in net.results.of(key, net.base))
            for variant in net.variants:
                if (cell, variant) in net.worse:
                    continue
                for result in net.results.of(key, variant):
                    yield _failure(net, cell, result, fails(result), broken)

    return find


def _failure(net: Net, cell: str, result: CellResult, fails: bool, before: bool) -> Finding:
    if not fails:
        return Finding(Outcome.PASS, cell, "", result.variant)
    why = f"{result.error.type}: {result.error.message}" if result.error else f"{result.probes.failures} stale reads"
    if before:
        line = f"{cell} {result.variant}: {net.base} fails there too ({why})"
        return Finding(Outcome.INCONCLUSIVE, cell, line, result.variant)
    return Finding(Outcome.FAIL, cell, f"{cell} {result.variant}: {why}", result.variant)


def _stale_reads(net: Net) -> Iterator[Finding]:
    yield from _failing(_stale)(net)
    for cell, variant, _, after in net.pairs():
        if any(not result.probes.checked for result in after):
            yield Finding(Outcome.INCONCLUSIVE, cell, f"{cell} {variant}: nothing was read", variant)


def _skips(net: Net) -> Iterator[Finding]:
    """Cells that a variant cannot run although the kernel without the series can."""
    for cell, result in net.results.labelled:
        if result.skipped and result.variant in net.variants and net.results.of(result.key, net.base):
            yield Finding(Outcome.FAIL, cell, f"{cell} {result.variant}: skipped: {result.skipped}", result.variant)


def _ran(net: Net) -> Iterator[Finding]:
    yield from _skips(net)
    yield from _failing(lambda result: result.error is not None and not _stale(result) and not _polluted(result))(net)


def _messages(net: Net) -> Iterator[Finding]:
    """Lines of the kernel's log that it does not have without the series; addresses, times and numbers aside."""
    record = net.results.record
    spoken = [(result.variant, result.id, result.dmesg) for result in record.results]
    said: dict[str, dict[str, tuple[str, str]]] = {}
    for variant, step, lines in [*spoken, *((log.variant, log.step, log.lines) for log in record.logs)]:
        kept = [line for line in telling(lines) if " ? " not in line]  # what the unwinder doubts is old stack
        said.setdefault(variant, {}).update({form(line): (step, line) for line in kept})
    if net.base not in said:
        return
    for variant in net.variants:
        new = [what for shape, what in said.get(variant, {}).items() if shape not in said[net.base]]
        if new:
            step, line = new[0]
            first = next((words.headline for words in reports(line for _, line in new)), line)
            yield Finding(Outcome.FAIL, "", f"{variant}: {len(new)} new lines, {step}: {first}", variant)
        elif variant in said:
            yield Finding(Outcome.PASS, "", "the kernel said nothing new", variant)


def _predicted(net: Net) -> Iterator[Finding]:
    """Root loads against the model, wherever that describes the kernel."""
    wrong = {
        result.key
        for _, result in net.results.labelled
        if result.variant == net.base and result.predicted and _off(result)
    }
    for cell, variant, _, after in net.pairs():
        for result in after:
            view = net.results.views.get(variant)
            if result.predicted is None:
                why = view.why if view and view.features is None else "no prediction here"
                outcome = Outcome.SKIPPED
                yield Finding(outcome, cell, f"{variant}: the model does not describe it: {why}", variant)
                continue
            if not _off(result):
                yield Finding(Outcome.PASS, cell, "", variant)
                continue
            loads = result.counts["kvm_mmu_load"]
            line = f"{cell} {variant}: {loads} root loads in {result.round_trips} round trips, "
            line += f"predicted {result.predicted.loads}"
            # Where the model is wrong about the kernel without the series, it proves nothing.
            known = result.key in wrong
            line += f"; {net.base} is not as predicted either" if known else ""
            yield Finding(Outcome.INCONCLUSIVE if known else Outcome.FAIL, cell, line, variant)


def _off(result: CellResult) -> bool:
    loads = result.counts.get("kvm_mmu_load")
    return loads is not None and result.predicted is not None and loads != result.predicted.loads


def _no_more(what: str, metrics: Callable[[Sequence[CellResult]], Iterable[str]], room: Fraction) -> Find:
    """A row about counts per round trip."""

    def find(net: Net) -> Iterator[Finding]:
        for cell, variant, before, after in net.pairs():
            for metric in metrics([*before, *after]):
                yield _compared(net, what, metric, cell, variant, before, after, room)

    return find


def _compared(
    net: Net,
    what: str,
    metric: str,
    cell: str,
    variant: str,
    before: list[CellResult],
    after: list[CellResult],
    room: Fraction,
) -> Finding:
    sides = [[_per_round_trip(metric, result) for result in side] for side in (before, after)]
    figures = [[each for each in side if not isinstance(each, Missing)] for side in sides]
    for side in sides:
        if lost := next((each for each in side if isinstance(each, Missing)), None):
            outcome = Outcome.INCONCLUSIVE if any(figures) else Outcome.SKIPPED
            return Finding(outcome, cell, f"{metric}: {lost.why}", variant)
    a, b = figures
    if min(b) > max(a) + room:  # in every turn
        line = f"{cell} {variant}: {metric} {shown(max(a))} -> {shown(min(b))} per round trip"
        return Finding(Outcome.FAIL, cell, line, variant)
    if max(b) < min(a) - room:
        _, _, which = metric.partition(".")
        figure = f"{what} ({which})" if which else what
        net.effects.append(Effect(figure, cell, variant, float(min(a)), float(max(b)), "per round trip"))
    return Finding(Outcome.PASS, cell, "", variant)


def _per_round_trip(metric: str, result: CellResult) -> Fraction | Missing:
    total = value(metric, result)
    return total if isinstance(total, Missing) else Fraction(total, max(result.round_trips, 1))


def _times(net: Net) -> Iterator[Finding]:
    """Time per round trip; all comparisons share their noise floor and the correction for their number."""
    pairs = list(net.pairs())
    timed = [pair for pair in pairs if all(result.samples for result in (*pair[2], *pair[3]))]
    runs = {(cell, variant): (ticks(before), ticks(after)) for cell, variant, before, after in timed}
    tolerance = TIME_EMULATED if net.results.exact else stats.TOLERANCE
    unit = net.results.record.unit
    for (cell, variant), found in judge_times(runs, net.results.record, tolerance).items():
        figures = f"{found.median_a:.0f} -> {found.median_b:.0f} {unit} per round trip: {found.reason}"
        yield Finding(not_higher(found, tolerance), cell, f"{cell} {variant}: time {figures}", variant)
        if found.outcome is stats.Outcome.LOWER:
            net.effects.append(
                Effect("time", cell, variant, found.median_a, found.median_b, f"in {unit} per round trip")
            )
    for cell, variant, *_ in [pair for pair in pairs if pair not in timed]:
        yield Finding(Outcome.INCONCLUSIVE, cell, f"{cell} {variant}: time: no samples", variant)


def _flushes(results: Sequence[CellResult]) -> list[str]:
    names = {name for result in results for name in result.stats if "tlb_flush" in name}
    return [f"stat.{name}" for name in sorted({*names, "tlb_flush"})]


def _mmu_work(results: Sequence[CellResult]) -> list[str]:
    names = {name for result in results for name in result.stats if name.startswith(("pf_", "mmu_"))}
    return [f"stat.{name}" for name in sorted(names)]


def _leaks(net: Net) -> Iterator[Finding]:
    yield from leaks(net.results.record.leftovers, net.base, net.variants)


def _litmus(about: Callable[[Sequence[TestResult], str, Iterable[str]], Iterator[Finding]]) -> Find:
    """A row about litmus tests."""

    def find(net: Net) -> Iterator[Finding]:
        tests = [test for test in net.results.record.tests if test.battery == LITMUS]
        found = list(about(tests, net.base, net.variants))
        yield from found or [litmus.NOT_RUN]

    return find


def _quiet(net: Net) -> Iterator[Finding]:
    yield from quiet(net.results.record.tests, net.base, net.variants)


def _held(battery: str, way: str) -> Find:
    """A row about a battery that has to give what it gives without the series, and how it is asked for."""

    def find(net: Net) -> Iterator[Finding]:
        tests = [test for test in net.results.record.tests if test.battery == battery]
        found = list(held(tests, net.base, net.variants))
        yield from found or [Finding(Outcome.SKIPPED, "", f"not asked for: {way}")]

    return find


# In the order of causes. What costs root loads costs time, too.
ROWS = (
    Row("results-present", "Every cell has a result under every variant.", _present, group=CELLS_RUN),
    Row("every-cell-ran", "Every cell that runs without the series runs with it.", _ran, group=CELLS_RUN),
    Row(
        "no-stale-reads",
        "Every read through a table just switched to saw that table's page.",
        _stale_reads,
        group=CELLS_RUN,
    ),
    Row(
        "litmus-tests-hold",
        "Every litmus test that holds without the series holds with it.",
        _litmus(litmus.failures),
        "tests",
        group=CELLS_RUN,
    ),
    Row(
        "no-new-messages",
        "The kernel's log has no line that it does not have without the series.",
        _messages,
        group=KERNEL_WELL,
    ),
    Row("no-more-loads", "No more root loads.", _no_more("root loads", lambda results: ["loads"], EXACT)),
    Row("no-more-switches", "No more root switches.", _no_more("root switches", lambda results: ["switches"], EXACT)),
    Row("no-more-exits", "No more exits of any reason.", _no_more("exits", lambda r: expand("exits.*", r), ROOM)),
    Row("no-more-flushes", "No more TLB flushes.", _no_more("TLB flushes", _flushes, ROOM)),
    Row("no-more-mmu-work", "No more work of KVM's MMU.", _work),
    Row(
        "litmus-no-more-work",
        "A litmus test costs KVM no more flushes, faults and pages.",
        _litmus(litmus.more_work),
        "tests",
    ),
    Row("loads-as-predicted", "Root loads are as the model of the root cache predicts.", _predicted, group=CELLS_RUN),
    Row("no-more-time", "A round trip takes no longer.", _times),
    Row(
        "no-leak",
        "Unloaded, KVM leaves no page a VM behind that it does not leave without the series.",
        _leaks,
        group=KERNEL_WELL,
    ),
    Row("debug-kernel-is-quiet", "Lockdep, KASAN and their like have nothing to report.", _quiet, group=KERNEL_WELL),
    Row(
        "builds-cleanly",
        "However KVM is configured, nothing fails to build and nothing warns that does not without the series.",
        _held(BUILDS, "--thorough builds it"),
        "builds",
        group=KERNEL_WELL,
    ),
    Row(
        "selftests-hold",
        "KVM's selftests fail nowhere but where they fail in the very same way without the series.",
        _held(SELFTESTS, "--thorough runs them"),
        "tests",
        group=OTHERS_TESTS,
    ),
    Row(
        "unit-tests-hold",
        "kvm-unit-tests fail nowhere but where they fail in the very same way without the series.",
        _held(UNIT_TESTS, "--unit-tests names a built tree of them"),
        "tests",
        group=OTHERS_TESTS,
    ),
)
