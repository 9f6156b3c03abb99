"""How many turns it takes to see an effect of a given size, from the noise between the turns that there are.

After Stein's two-stage procedure: some turns tell the noise, that tells how many it takes, and these are run.

Source: Stein, A Two-Sample Test for a Linear Hypothesis Whose Power is Independent of the Variance (1945).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, isinf, pi, sqrt
from statistics import NormalDist, median, stdev

from kvmharness.results.noise import ALPHA, Noise, Runs, student_t
from kvmharness.results.record import Record

POWER = 0.95
"""How probably an effect is to be seen."""

_FIFTH = NormalDist().inv_cdf(0.2)
_MEDIAN = sqrt(pi / 2)  # the standard error of a median against that of a mean


@dataclass(frozen=True, slots=True)
class Detect:
    """An effect that is to be seen.

    Attributes:
        effect: relative change of time.
        within_s: how long it may take.
    """

    effect: float
    within_s: float


def detectable(groups: Sequence[Runs], turns: int) -> float:
    """The smallest relative change that is seen with :data:`POWER` between two runs of so many turns each.

    Args:
        groups: for each cell its samples, turn by turn; they are judged together, as by :func:`judge_all`.
        turns: of each of the two.

    Returns:
        Infinity where nothing was run twice.
    """
    medians = [[median(run) for run in runs] for runs in groups if len(runs) > 1]
    noises = [Noise(stdev(each) / median(each), len(each) - 1) for each in medians]
    freedom = sum(noise.freedom for noise in noises)
    if not freedom:
        return inf
    pooled = Noise(sqrt(sum(noise.deviation**2 * noise.freedom for noise in noises) / freedom), freedom)
    alpha = ALPHA / len(groups)  # Holm's correction, of the cell that it is hardest on
    largest = 0.0
    for noise in (max(own, pooled) for own in noises):
        deviation = noise.deviation * _at_most(noise.freedom)
        quantiles = student_t(1 - alpha / 2, noise.freedom) + _MEDIAN * student_t(POWER, noise.freedom)
        largest = max(largest, quantiles * deviation * sqrt(2 / turns))
    return largest


def _at_most(freedom: int) -> float:
    """By how much a standard deviation may be larger than its estimate, with a confidence of 80 %.

    A run that stops as soon as its noise looks small enough has seen less of it than there is.

    Source: the chi-squared distribution after Wilson and Hilferty (1931).
    """
    spread = 2 / (9 * freedom)
    return float((1 - spread + _FIFTH * sqrt(spread)) ** -1.5)


def turns_needed(groups: Sequence[Runs], effect: float) -> float:
    """How many turns it takes to see an effect; infinity where nothing was run twice."""
    single = detectable(groups, 1)
    return single if isinf(single) else max(2, ceil((single / effect) ** 2))


def groups_of(record: Record) -> list[Runs]:
    """The samples of a record, cell by cell and turn by turn."""
    found: dict[object, list[tuple[float, ...]]] = {}
    for result in record.results:
        if result.samples:
            found.setdefault((result.variant, result.key), []).append(result.ticks_per_round_trip)
    return list(found.values())


def reached(record: Record, effect: float) -> bool:
    """Whether an effect would be seen between this record's run and another like it."""
    groups = groups_of(record)
    return bool(groups) and detectable(groups, min(map(len, groups))) <= effect
