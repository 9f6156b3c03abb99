"""What is noise and what is not: medians, resampling, and a verdict that can also be "inconclusive".

Samples of one run (one VM, one turn of the interleaving) share the VM's memory layout and the host's mood of that
minute, so they are less different from each other than from those of another run of *the same thing*. A change counts
only when it is larger than both: than what shuffling the samples explains, and than what repeated runs of the same
thing differ by. The second is the A/A noise floor, taken from the very session that is being judged.

Pure Python, and deterministic: resampling starts from a fixed seed, so the same samples give the same verdict.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from itertools import combinations
from math import atan, comb, cos, inf, isinf, pi, sin, sqrt
from random import Random
from statistics import median, stdev
from typing import Final, NamedTuple, TypeVar

_Key = TypeVar("_Key")

Runs = Sequence[Sequence[float]]
"""The samples of one variant, run by run."""

SEED: Final = 20200228
RESAMPLES: Final = 4000
ALPHA: Final = 0.05
POWER: Final = 0.8
TOLERANCE: Final = 0.02
"""The largest relative change that still counts as none."""

_EXACT_MAX = 20_000  # arrangements that are all tried instead of some drawn
_ENOUGH_EXTREMES = 50  # a sequential test stops here (Besag and Clifford, 1991): the p-value is large anyway


class Interval(NamedTuple):
    """A confidence interval, both ends included."""

    low: float
    high: float


class Noise(NamedTuple):
    """How much runs of the same thing differ.

    Attributes:
        deviation: standard deviation of run medians, relative to their median.
        freedom: degrees of freedom behind it; 0 when nothing was run twice.
    """

    deviation: float
    freedom: int


class Outcome(StrEnum):
    """What can be said about B against A."""

    SAME = "same"
    LOWER = "lower"
    HIGHER = "higher"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Comparison:
    """B against A, with all figures that led to the outcome. Relative figures are fractions of A's median.

    Attributes:
        outcome: the verdict.
        reason: the verdict in words, with the figures that decided.
        median_a: of all samples.
        median_b: of all samples.
        change: (median_b - median_a) / median_a.
        interval: confidence interval of ``change``.
        p_value: how often a change as large appears when there is none; corrected when several were judged together.
        noise: the A/A noise floor: changes up to here happen between runs of the same thing.
        detectable: the smallest change that would have been seen with a probability of 80 %.
        samples: how many of A and of B.
    """

    outcome: Outcome
    reason: str
    median_a: float
    median_b: float
    change: float
    interval: Interval
    p_value: float
    noise: float
    detectable: float
    samples: tuple[int, int]


def permutation_p(a: Sequence[float], b: Sequence[float], *, seed: int = SEED) -> float:
    """Two-sided permutation test of equal medians; exact when there are few arrangements, otherwise drawn.

    Returns:
        the probability of a difference of medians at least as large when the labels A and B mean nothing.
    """
    pool = [*a, *b]
    observed = abs(median(b) - median(a))

    def extreme(chosen: Sequence[int]) -> bool:
        picked = set(chosen)
        left = [pool[i] for i in chosen]
        right = [value for i, value in enumerate(pool) if i not in picked]
        return abs(median(right) - median(left)) >= observed

    if comb(len(pool), len(a)) <= _EXACT_MAX:
        outcomes = [extreme(chosen) for chosen in combinations(range(len(pool)), len(a))]
        return sum(outcomes) / len(outcomes)
    random, indices = Random(seed), range(len(pool))
    return _sequential_p(extreme(random.sample(indices, len(a))) for _ in range(RESAMPLES))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's correction for testing many things: one of them looks significant by chance.

    Returns:
        the adjusted p-values, in the order given.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[i] * (len(p_values) - rank)))
        adjusted[i] = largest
    return tuple(adjusted)


def run_noise(groups: Iterable[Runs]) -> Noise:
    """The A/A noise of a session.

    Args:
        groups: each holds repeated runs of one and the same thing; their deviations are pooled.
    """
    squares, freedom = 0.0, 0
    for runs in groups:
        medians = [median(run) for run in runs]
        if len(medians) > 1 and (centre := median(medians)):
            squares += (stdev(medians) / centre) ** 2 * (len(medians) - 1)
            freedom += len(medians) - 1
    return Noise(sqrt(squares / freedom) if freedom else 0.0, freedom)


def judge(
    a: Runs, b: Runs, *, noise: Noise | None = None, tolerance: float = TOLERANCE, alpha: float = ALPHA
) -> Comparison:
    """Compares B with A. See :func:`judge_all` for several comparisons at once.

    Args:
        a: the reference's samples, run by run.
        b: the other's, in the same unit.
        noise: A/A noise of the session; the runs of A and of B among themselves when it is not given. The larger one
            of the two counts.
        tolerance: the largest relative change that still counts as none.
        alpha: the accepted probability of seeing a change where there is none.

    Raises:
        ValueError: a side without samples, or a reference whose median is not positive.
    """
    return _decide(_measure(a, b, noise, tolerance, alpha), tolerance, alpha)


def judge_all(
    pairs: Mapping[_Key, tuple[Runs, Runs]], *, tolerance: float = TOLERANCE, alpha: float = ALPHA
) -> dict[_Key, Comparison]:
    """Compares many pairs of one session: the noise is pooled over all of them, the p-values are Holm-corrected."""
    noise = run_noise(runs for pair in pairs.values() for runs in pair)
    measured = {key: _measure(a, b, noise, tolerance, alpha) for key, (a, b) in pairs.items()}
    adjusted = holm([comparison.p_value for comparison in measured.values()])
    return {
        key: _decide(replace(comparison, p_value=p), tolerance, alpha)
        for (key, comparison), p in zip(measured.items(), adjusted, strict=True)
    }


def typical(values: Iterable[float], *, exact: bool) -> float:
    """The figure that stands for several samples: the median, or the least of samples that repeat exactly.

    In an emulated host a sample differs from the next only by whole timer ticks of its kernel that fell into it, so
    the least one is the undisturbed one.
    """
    return min(values) if exact else median(values)


def judge_exact(a: Runs, b: Runs, *, tolerance: float = 0.0) -> Comparison:
    """Compares samples that repeat exactly, such as instruction counts in an emulated host: there is no noise.

    Raises:
        ValueError: there are no samples, or the reference is not positive.
    """
    before, after = (typical((value for run in runs for value in run), exact=True) for runs in (a, b))
    if before <= 0:
        raise ValueError(f"cannot relate anything to a reference of {before}")
    change = (after - before) / before
    outcome = Outcome.SAME if abs(change) <= tolerance else _direction(change)
    p_value = 0.0 if after != before else 1.0
    reason = f"{change:+.2%}, exact"
    return Comparison(outcome, reason, before, after, change, Interval(change, change), p_value, 0, tolerance, (1, 1))


def _measure(a: Runs, b: Runs, noise: Noise | None, tolerance: float, alpha: float) -> Comparison:
    """All figures, and no verdict yet."""
    a, b = [run for run in a if run], [run for run in b if run]
    flat_a, flat_b = [v for run in a for v in run], [v for run in b for v in run]
    if not flat_a or not flat_b:
        raise ValueError(f"cannot compare {len(flat_a)} samples with {len(flat_b)}")
    median_a, median_b = median(flat_a), median(flat_b)
    if median_a <= 0:
        raise ValueError(f"cannot relate anything to a reference whose median is {median_a}")
    change = (median_b - median_a) / median_a

    spread = sqrt(1 / len(a) + 1 / len(b))
    own = run_noise((a, b))
    session = noise or own
    freedom = max(own.freedom, session.freedom)
    run_error = max(own.deviation, session.deviation) * spread
    changes = _bootstrap_changes(a, b)
    within = _percentiles(changes, 1 - alpha)
    error = max(run_error, stdev(changes))
    floor = student_t(1 - alpha / 2, freedom) * run_error if freedom else inf
    detectable = max(
        tolerance, (student_t(1 - alpha / 2, freedom) + student_t(POWER, freedom)) * error if freedom else inf
    )
    p_runs = 1.0
    if freedom and change:
        t = abs(change) / run_error if run_error else inf
        p_runs = max(0.0, 2 * (1 - student_t_cdf(t, freedom)))
    return Comparison(
        outcome=Outcome.INCONCLUSIVE,
        reason="",
        median_a=median_a,
        median_b=median_b,
        change=change,
        interval=Interval(min(within.low, change - floor), max(within.high, change + floor)),
        p_value=max(p_runs, permutation_p(flat_a, flat_b)),
        noise=floor,
        detectable=detectable,
        samples=(len(flat_a), len(flat_b)),
    )


def _decide(c: Comparison, tolerance: float, alpha: float) -> Comparison:
    if isinf(c.noise):
        return replace(c, reason=f"{c.change:+.2%}, but nothing was run twice: the noise floor is unknown")
    if c.p_value <= alpha and abs(c.change) > max(c.noise, tolerance):
        return replace(
            c, outcome=_direction(c.change), reason=f"{c.change:+.2%}, p = {c.p_value:.2g}, noise {c.noise:.2%}"
        )
    if -tolerance <= c.interval.low and c.interval.high <= tolerance:
        interval = f"[{c.interval.low:+.2%}, {c.interval.high:+.2%}]"
        return replace(c, outcome=Outcome.SAME, reason=f"{interval} is within ±{tolerance:.2%}")
    return replace(
        c, reason=f"{c.change:+.2%}, p = {c.p_value:.2g}; only {c.detectable:.2%} or more would have been seen"
    )


def _direction(change: float) -> Outcome:
    return Outcome.LOWER if change < 0 else Outcome.HIGHER


def _bootstrap_changes(a: Runs, b: Runs) -> list[float]:
    """Relative changes of the medians when every run's samples are drawn again, sorted."""
    random = Random(SEED)
    changes = []
    for _ in range(RESAMPLES // 4):
        centre_a, centre_b = (median(v for run in runs for v in _drawn(run, random)) for runs in (a, b))
        if centre_a > 0:
            changes.append((centre_b - centre_a) / centre_a)
    return sorted(changes)


def _drawn(values: Sequence[float], random: Random) -> list[float]:
    return random.choices(values, k=len(values))


def _percentiles(ordered: Sequence[float], confidence: float) -> Interval:
    outside = int((1 - confidence) / 2 * len(ordered))
    return Interval(ordered[outside], ordered[-1 - outside])


def _sequential_p(extremes: Iterable[bool]) -> float:
    """The p-value of drawn arrangements; the observed one counts as drawn, so it is never 0."""
    drawn, found = 0, 0
    for is_extreme in extremes:
        drawn += 1
        found += is_extreme
        if found == _ENOUGH_EXTREMES:
            return found / drawn
    return (found + 1) / (drawn + 1)


def student_t_cdf(t: float, freedom: int) -> float:
    """Student's t distribution for whole degrees of freedom.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    angle = atan(t / sqrt(freedom))
    square = cos(angle) ** 2
    term = cos(angle) if freedom % 2 else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(3 if freedom % 2 else 2, freedom - 1, 2):
        term *= (k - 1) / k * square
        total += term
    inside = 2 / pi * (angle + sin(angle) * total) if freedom % 2 else sin(angle) * total
    return (1 + inside) / 2


@lru_cache  # a session has one noise, and many cells ask for it
def student_t(probability: float, freedom: int) -> float:
    """The value that t stays below with this probability, between 0.5 and 1."""
    low, high = 0.0, 1e6
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if student_t_cdf(middle, freedom) < probability else (low, middle)
    return high
