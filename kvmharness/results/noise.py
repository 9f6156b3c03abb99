"""What is noise and what is not: medians, ranks, and a verdict that can also be "inconclusive".

Samples of one run (one VM, one turn of the interleaving) share the VM's memory layout and the host's mood of that
minute, so they are less different from each other than from those of another run of *the same thing*. A change counts
only when it is larger than both: than what shuffling the samples explains, and than what repeated runs of the same
thing differ by. The second is the A/A noise floor, taken from the very session that is being judged.

Pure Python, and nothing is drawn at random: the same samples give the same verdict, and a record of 10,000 results is
judged in the time that it takes to sort its samples.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from itertools import chain
from math import atan, cos, fsum, hypot, inf, isinf, pi, sin, sqrt
from statistics import NormalDist, median
from typing import Final, NamedTuple, TypeVar

_Key = TypeVar("_Key")

Runs = Sequence[Sequence[float]]
"""The samples of one variant, run by run."""

ALPHA: Final = 0.05
POWER: Final = 0.8
TOLERANCE: Final = 0.02
"""The largest relative change that still counts as none."""

_NORMAL: Final = NormalDist()
_MANY = 300  # degrees of freedom


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


class Side(NamedTuple):
    """What is asked of one variant's samples, found once.

    Attributes:
        ordered: all samples, in order.
        medians: of each run.
    """

    ordered: Sequence[float]
    medians: Sequence[float]

    @classmethod
    def of(cls, runs: Runs) -> "Side":
        """Of runs, of which one may have no samples."""
        return cls(sorted(chain.from_iterable(runs)), [median(run) for run in runs if run])

    def scaled(self, factor: float) -> "Side":
        """The same, had each sample been so many times as large."""
        return Side([each * factor for each in self.ordered], [each * factor for each in self.medians])


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


def median_test_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided test of equal medians: a permutation test whose arrangements need not be tried, as they can be counted.

    What is compared is how many of A's samples lie above the median of all. Where many are equal to that median, these
    count as above it or as below it, whichever divides the samples more evenly.

    Returns:
        the probability of a number at least as unlikely when the labels A and B mean nothing.

    Source: Mood, Introduction to the Theory of Statistics (1950), pages 394 to 399; with Fisher's exact probabilities.
    """
    a, b = sorted(a), sorted(b)
    centre, total = median([*a, *b]), len(a) + len(b)
    above, not_below = (
        len(a) - bisect(a, centre) + len(b) - bisect(b, centre) for bisect in (bisect_right, bisect_left)
    )
    bisect = bisect_right if abs(2 * above - total) <= abs(2 * not_below - total) else bisect_left
    of_a, of_b = len(a) - bisect(a, centre), len(b) - bisect(b, centre)
    return _exact_p(of_a, len(a), of_a + of_b, total)


@lru_cache(maxsize=1 << 14)  # cells of one session have as many samples each, so the same numbers come again
def _exact_p(marked: int, drawn: int, all_marked: int, total: int) -> float:
    """Fisher's exact test: how likely it is to find *marked*, or a less likely number, among *drawn* of *total*."""
    low, high = max(0, drawn + all_marked - total), min(drawn, all_marked)
    mode = (drawn + 1) * (all_marked + 1) // (total + 2)
    # Each relative to the most likely number; what becomes too small for a float counts for nothing.
    likely = {mode: 1.0}
    for k in range(mode, high):
        likely[k + 1] = likely[k] * (drawn - k) * (all_marked - k) / ((k + 1) * (total - drawn - all_marked + k + 1))
    for k in range(mode, low, -1):
        likely[k - 1] = likely[k] * k * (total - drawn - all_marked + k) / ((drawn - k + 1) * (all_marked - k + 1))
    seen = likely[marked] * (1 + 1e-7)  # equally likely ones differ by rounding
    return min(1.0, sum(each for each in likely.values() if each <= seen) / sum(likely.values()))


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


def run_noise(groups: Iterable[Sequence[float]]) -> Noise:
    """The A/A noise of a session.

    Args:
        groups: each holds the medians of repeated runs of one and the same thing; their deviations are pooled.
    """
    squares, freedom = 0.0, 0
    for medians in groups:
        if len(medians) > 1 and (centre := median(medians)):
            mean = fsum(medians) / len(medians)
            squares += fsum((each - mean) ** 2 for each in medians) / centre**2
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
    return _decide(_measure(Side.of(a), Side.of(b), noise, tolerance, alpha), tolerance, alpha)


def judge_all(
    pairs: Mapping[_Key, tuple[Runs, Runs]], *, tolerance: float = TOLERANCE, alpha: float = ALPHA
) -> dict[_Key, Comparison]:
    """Compares many pairs of one session, see :func:`judge_sides`."""
    return judge_sides({key: (Side.of(a), Side.of(b)) for key, (a, b) in pairs.items()}, tolerance, alpha)


def judge_sides(
    pairs: Mapping[_Key, tuple[Side, Side]], tolerance: float = TOLERANCE, alpha: float = ALPHA
) -> dict[_Key, Comparison]:
    """Compares many pairs of one session: the noise is pooled over all of them, the p-values are Holm-corrected."""
    noise = run_noise(side.medians for pair in pairs.values() for side in pair)
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


def _measure(a: Side, b: Side, noise: Noise | None, tolerance: float, alpha: float) -> Comparison:
    """All figures, and no verdict yet."""
    flat_a, flat_b = a.ordered, b.ordered
    if not flat_a or not flat_b:
        raise ValueError(f"cannot compare {len(flat_a)} samples with {len(flat_b)}")
    median_a, median_b = median(flat_a), median(flat_b)
    if median_a <= 0:
        raise ValueError(f"cannot relate anything to a reference whose median is {median_a}")
    change = (median_b - median_a) / median_a

    spread = sqrt(1 / len(a.medians) + 1 / len(b.medians))
    own = run_noise((a.medians, b.medians))
    session = noise or own
    freedom = max(own.freedom, session.freedom)
    run_error = max(own.deviation, session.deviation) * spread
    within = _change_interval(flat_a, flat_b, z := _NORMAL.inv_cdf(1 - alpha / 2))
    error = max(run_error, (within.high - within.low) / (2 * z))
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
        p_value=max(p_runs, median_test_p(flat_a, flat_b)),
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


def _change_interval(a: Sequence[float], b: Sequence[float], z: float) -> Interval:
    """Confidence interval of the relative change of the median, from sorted samples.

    Source: Zou and Donner, Construction of confidence limits about effect measures (2008): the distances of two
    limits from their estimates add up by their squares.
    """
    (low_a, high_a), (low_b, high_b) = _median_interval(a, z), _median_interval(b, z)
    centre_a, centre_b = median(a), median(b)
    ratio = centre_b / centre_a
    down = hypot(centre_b - low_b, ratio * (high_a - centre_a)) / centre_a
    up = hypot(high_b - centre_b, ratio * (centre_a - low_a)) / centre_a
    return Interval(ratio - 1 - down, ratio - 1 + up)


def _median_interval(ordered: Sequence[float], z: float) -> Interval:
    """Confidence interval of the median of sorted samples: two of them, by their ranks.

    Source: Conover, Practical Nonparametric Statistics, "The Quantile Test and the Estimation of x_p": the number of
    samples below the median is binomial, here by its normal approximation.
    """
    outside = max(0, int((len(ordered) - z * sqrt(len(ordered))) / 2))
    return Interval(ordered[outside], ordered[-1 - outside])


def student_t_cdf(t: float, freedom: int) -> float:
    """Student's t distribution for whole degrees of freedom; of many, to within 1e-6.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4; of many 26.7.8.
    """
    if freedom > _MANY:  # a session of many cells, and each of them asks
        scale = sqrt(1 + t * t / (2 * freedom))
        return _NORMAL.cdf(t * (1 - 1 / (4 * freedom)) / scale if scale < inf else inf)
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
