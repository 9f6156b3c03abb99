"""Record B against record A, or one variant against another: counts exactly, time only beyond what is noise.

Cells are paired by what they are (id and module parameters) and by variant. Times are compared only where both records
come from the same CPU, kernel configuration and unit; otherwise only the counts are, with a warning that says why.
Records whose counts cannot mean the same are refused.

Two records are two sessions: the host may have been busier, or clocked otherwise, during one of them, and nothing
inside a session shows it. So a slower cell of another session is a failure only when it is slower than the other cells,
too. Variants of one record are interleaved, and need no such care.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import median

from kvmharness.errors import UsageError
from kvmharness.measure.clock import UNIT_EMULATED
from kvmharness.results import noise as stats
from kvmharness.results.record import CellKey, CellResult, Record
from kvmharness.results.verdict import Outcome

STALE = "stale translations"

# What the host's own timers and neighbours cause: not equal between any two runs, whatever the patch does. "other" is
# what is left of the total when the reasons counted by name are taken away, so it holds some of these too.
ASYNCHRONOUS = frozenset(
    {
        *("EXTERNAL_INTERRUPT", "EXCEPTION_NMI", "PREEMPTION_TIMER", "INTERRUPT_WINDOW", "NMI_WINDOW", "PML_FULL"),
        *("INTR", "NMI", "VINTR", "SMI", "INIT", "other"),
    }
)
TOTALS = frozenset({"kvm_exit"})  # contains the asynchronous ones
_UNSHARED = ASYNCHRONOUS | TOTALS
WORK = frozenset(
    {"kvm_mmu_new_pgd", "kvm_nested_vmexit"}
)  # what the guest asked for: another count is another workload

CONTROLS = 3  # cells with equal counts that it takes to tell how far a whole session has moved
APART = 0.95  # share of the pairs of runs (one of A, one of B) in which B must be the slower one

# Host facts that time depends on; a record of another value has counts to compare and no time.
TIME_FACTS = ("cpu", "cpu_model", "microcode", "mitigations", "config_hash", "emulator", "emulated", "guest_memory")


class CompareError(UsageError):
    """Two records, or two variants, that have nothing to compare."""


@dataclass(frozen=True, slots=True)
class CountChange:
    """One count per round trip, exactly."""

    name: str  # an exit reason, a kernel function or tracepoint, or "stale translations"
    a: Fraction
    b: Fraction


@dataclass(frozen=True, slots=True)
class CellComparison:
    """One cell, B against A."""

    key: CellKey
    variant_a: str
    variant_b: str
    changed: tuple[CountChange, ...]  # only the counts that differ, and stale translations if B saw any
    unknown: tuple[str, ...]  # counts that only one side has
    time: stats.Comparison | None  # None: not compared
    outcome: Outcome  # FAIL: B is worse or not the same work; PASS: it is not
    why: str

    @property
    def id(self) -> str:
        """The cell's id."""
        return self.key[0]


@dataclass(frozen=True, slots=True)
class RecordComparison:
    """All cells that both sides have."""

    cells: tuple[CellComparison, ...]
    warnings: tuple[str, ...]
    unit: str
    titles: Mapping[str, str]  # of the patches, by the variants that are one patch

    @property
    def outcome(self) -> Outcome:
        """FAIL if any cell is worse, else INCONCLUSIVE if any could not be told, else PASS."""
        return Outcome.overall([cell.outcome for cell in self.cells])


def compare(a: Record, b: Record, *, tolerance: float = stats.TOLERANCE) -> RecordComparison:
    """Compare record *b* with record *a*, variant by variant of the same name; one variant each is paired as it is.

    Args:
        a: the reference.
        b: what is judged.
        tolerance: the largest relative change of time that still counts as none.

    Raises:
        CompareError: no cell in common, or hosts whose root loads mean different things.
    """
    names_a, names_b = [v.name for v in a.variants], [v.name for v in b.variants]
    pairs = [(name, name) for name in names_a if name in names_b]
    if not pairs and len(names_a) == len(names_b) == 1:
        pairs = [(names_a[0], names_b[0])]
    if not pairs:
        raise CompareError(
            f"no variant in common: {', '.join(names_a)} against {', '.join(names_b)}",
            "compare records of the same variants, or two variants of one record",
        )
    if a.host.get("l0_ept") != b.host.get("l0_ept"):
        raise CompareError(
            "one host uses EPT or NPT for L1 and the other does not: the same cell loads other roots",
            "compare records of hosts that both have it, or both not",
        )
    obstacles = time_obstacles(a, b)
    warnings = (*obstacles, *_other_parameters(a, b))
    return _compare(a, b, pairs, warnings, with_time=not obstacles, sessions=True, tolerance=tolerance)


def compare_variants(
    record: Record, variant_a: str, variant_b: str, *, tolerance: float = stats.TOLERANCE
) -> RecordComparison:
    """Compare two variants of one run.

    Raises:
        CompareError: the record has no such variant, or no cell under both.
    """
    for name in (variant_a, variant_b):
        with_variant(record, name)
    return _compare(record, record, [(variant_a, variant_b)], (), with_time=True, sessions=False, tolerance=tolerance)


def with_variant(record: Record, name: str) -> Record:
    """The record with one of its variants only.

    Raises:
        CompareError: the record has no such variant.
    """
    known = {variant.name: variant for variant in record.variants}
    if name not in known:
        raise CompareError(f"no variant {name!r} in the record", f"it has {', '.join(known)}")
    results = tuple(result for result in record.results if result.variant == name)
    return replace(record, variants=(known[name],), results=results)


def time_obstacles(a: Record, b: Record) -> tuple[str, ...]:
    """Why the times of two records must not be compared; empty when they may be."""
    reasons = []
    if a.unit != b.unit:
        reasons.append(f"units differ ({a.unit} against {b.unit})")
    for name in TIME_FACTS:
        if a.host.get(name) != b.host.get(name):
            reasons.append(f"{name} differs ({_short(a.host.get(name))} against {_short(b.host.get(name))})")
    return tuple(f"{reason}: only counts are compared, not time" for reason in reasons)


def _other_parameters(a: Record, b: Record) -> tuple[str, ...]:
    """Warnings about KVM loaded in another way: that may be what is compared, so nothing is left out for it."""
    left, right = (side.host.get("module_parameters") for side in (a, b))
    if not isinstance(left, dict) or not isinstance(right, dict):
        return ()
    names = sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))
    return tuple(f"module parameter {name} differs ({left.get(name)} against {right.get(name)})" for name in names)


def _compare(
    a: Record,
    b: Record,
    variants: Sequence[tuple[str, str]],
    warnings: tuple[str, ...],
    *,
    with_time: bool,
    sessions: bool,
    tolerance: float,
) -> RecordComparison:
    sides: dict[tuple[CellKey, str, str], tuple[list[CellResult], list[CellResult]]] = {}
    unpaired: set[str] = set()
    for variant_a, variant_b in variants:
        turns_a, turns_b = _turns(a, variant_a), _turns(b, variant_b)
        unpaired |= {key[0] for key in turns_a.keys() ^ turns_b.keys()}
        for key in turns_a:
            if key in turns_b:
                sides[key, variant_a, variant_b] = turns_a[key], turns_b[key]
    if not sides:
        raise CompareError("the two have no cell in common", "run the same workloads, with the same module parameters")
    if unpaired:
        warnings = (*warnings, f"only on one side, not compared: {', '.join(sorted(unpaired))}")
    counts = {names: _counts(*pair) for names, pair in sides.items()}
    steady = [names for names, (changed, _) in counts.items() if not changed]
    times = _times(sides, steady, a.unit, sessions, tolerance) if with_time else {}
    cells = tuple(_cell(*names, *pair, counts[names], times.get(names)) for names, pair in sides.items())
    shown = {name for cell in cells for name in (cell.variant_a, cell.variant_b)}
    titles = {name: title for name, title in (b.titles | a.titles).items() if name in shown}
    return RecordComparison(cells, warnings, a.unit, titles)


_Names = tuple[CellKey, str, str]
_Sides = Mapping[_Names, tuple[list[CellResult], list[CellResult]]]
_Runs = list[list[float]]
_Counts = tuple[tuple[CountChange, ...], tuple[str, ...]]


def _times(
    sides: _Sides, steady: Sequence[_Names], unit: str, sessions: bool, tolerance: float
) -> dict[_Names, stats.Comparison]:
    """Time of each pair. In an emulated host the figures repeat exactly, so there is nothing to estimate.

    Args:
        steady: the pairs with equal counts.
    """
    timed = {
        names: (_runs(left), _runs(right))
        for names, (left, right) in sides.items()
        if any(turn.samples for turn in left) and any(turn.samples for turn in right)
    }
    if unit == UNIT_EMULATED:
        return {names: stats.judge_exact(left, right, tolerance=tolerance) for names, (left, right) in timed.items()}
    measured = {names: (stats.Side.of(left), stats.Side.of(right)) for names, (left, right) in timed.items()}
    judged = stats.judge_sides(measured, tolerance)
    if not sessions or not judged:
        return judged
    changes = [judged[names].change for names in steady if names in judged]
    # Never quite all of the time, whatever a record says: it is divided by what is left.
    shift = max(median(changes), -0.999999) if len(changes) >= CONTROLS else None
    level = {names: (left, right.scaled(1 / (1 + (shift or 0.0)))) for names, (left, right) in measured.items()}
    beside = stats.judge_sides(level, tolerance)
    return {names: _of_a_session(judged[names], beside[names], shift, *timed[names]) for names in timed}


def _of_a_session(
    alone: stats.Comparison, beside: stats.Comparison, shift: float | None, left: _Runs, right: _Runs
) -> stats.Comparison:
    """What is left of a cell's slowdown when the session may be the reason for it."""
    doubt = ""
    slower = alone.outcome is stats.Outcome.HIGHER
    if slower and shift is None:
        doubt = f"it takes {CONTROLS} cells with equal counts to tell the kernel from the session"
    elif slower and beside.outcome is not stats.Outcome.HIGHER:
        doubt = f"cells with equal counts moved by {shift:+.2%} together, so it may be the session"
    elif slower and (share := _share_slower(left, right)) < APART:
        doubt = f"only {share:.0%} of the pairs of runs agree"
    elif not slower and shift is not None and beside.outcome is stats.Outcome.HIGHER:
        doubt = f"but cells with equal counts moved by {shift:+.2%} together"
    if not doubt:
        return alone
    return replace(alone, outcome=stats.Outcome.INCONCLUSIVE, reason=f"{alone.reason}; {doubt}")


def _share_slower(left: _Runs, right: _Runs) -> float:
    """In how many of the pairs of a run of A and a run of B the latter's median is higher."""
    medians_a, medians_b = [median(run) for run in left], [median(run) for run in right]
    return sum(b > a for a in medians_a for b in medians_b) / (len(medians_a) * len(medians_b))


def _cell(
    key: CellKey,
    variant_a: str,
    variant_b: str,
    left: list[CellResult],
    right: list[CellResult],
    counts: _Counts,
    time: stats.Comparison | None,
) -> CellComparison:
    def answer(
        outcome: Outcome, why: str, changed: tuple[CountChange, ...] = (), unknown: tuple[str, ...] = ()
    ) -> CellComparison:
        return CellComparison(key, variant_a, variant_b, changed, unknown, time, outcome, why)

    for side, turns in (("A", left), ("B", right)):
        for turn in turns:
            if turn.skipped:
                return answer(Outcome.SKIPPED, f"skipped in {side}: {turn.skipped}")
    for turn in right:
        if turn.error:
            return answer(Outcome.FAIL, f"error in B: {turn.error.type}: {turn.error.message}")
    for turn in left:
        if turn.error:
            return answer(Outcome.INCONCLUSIVE, f"error in A: {turn.error.type}: {turn.error.message}")
    changed, unknown = counts
    fewer = "; ".join(f"{change.name} {_figure(change.a)} -> {_figure(change.b)} per RT" for change in changed)
    if any(change.name == STALE or change.b > change.a for change in changed if change.name not in WORK):
        return answer(Outcome.FAIL, fewer, changed, unknown)
    if any(change.name in WORK for change in changed):
        return answer(Outcome.INCONCLUSIVE, f"not the same work: {fewer}", changed, unknown)
    if time is None:
        outcome = Outcome.INCONCLUSIVE if not _summed(left) else Outcome.PASS
        return answer(outcome, fewer or ("nothing to compare" if outcome is not Outcome.PASS else ""), changed, unknown)
    outcomes = {stats.Outcome.HIGHER: Outcome.FAIL, stats.Outcome.INCONCLUSIVE: Outcome.INCONCLUSIVE}
    why = "; ".join(part for part in (fewer, f"time {time.reason}") if part)
    return answer(outcomes.get(time.outcome, Outcome.PASS), why, changed, unknown)


def _counts(left: list[CellResult], right: list[CellResult]) -> _Counts:
    """The counts per round trip that differ, and the names of those that one side does not have."""
    counts_a, counts_b = _summed(left), _summed(right)
    trips_a, trips_b = sum(turn.round_trips for turn in left), sum(turn.round_trips for turn in right)
    if any(turn.exits for turn in left) and any(turn.exits for turn in right):
        # Reasons are counted one by one: where exits were counted, one that is not there did not happen.
        for name in {name for turn in (*left, *right) for name in turn.exits} - ASYNCHRONOUS:
            counts_a.setdefault(name, 0)
            counts_b.setdefault(name, 0)
    changed = []
    for name in sorted(counts_a.keys() & counts_b.keys()):
        a, b = counts_a[name], counts_b[name]
        if a * trips_b != b * trips_a:
            changed.append(CountChange(name, Fraction(a, trips_a), Fraction(b, trips_b)))
    stale = [sum(turn.probes.failures for turn in turns) for turns in (left, right)]
    if stale[1]:
        changed.insert(0, CountChange(STALE, Fraction(stale[0]), Fraction(stale[1])))
    return tuple(changed), tuple(sorted(counts_a.keys() ^ counts_b.keys()))


def _summed(turns: list[CellResult]) -> dict[str, int]:
    """The counts over all turns, without those that no two runs share."""
    counted = [turn for turn in turns if turn.round_trips]
    everywhere = set.intersection(*(set(turn.counts) for turn in counted)) if counted else set()
    sums: dict[str, int] = {}
    for turn in counted:
        for counts in (turn.exits, turn.counts):
            for name, count in counts.items():
                if name not in _UNSHARED and (name in everywhere or name in turn.exits):
                    sums[name] = sums.get(name, 0) + count
    return sums


def _turns(record: Record, variant: str) -> dict[CellKey, list[CellResult]]:
    turns: dict[CellKey, list[CellResult]] = {}
    for result in record.results:
        if result.variant == variant:
            turns.setdefault(result.key, []).append(result)
    return turns


def _runs(turns: Iterable[CellResult]) -> _Runs:
    # In order: whoever asks for a median later sorts them once more, which costs nothing then.
    return [sorted(turn.ticks_per_round_trip) for turn in turns if turn.samples]


def _figure(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"{float(value):.4g}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
