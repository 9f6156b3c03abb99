"""Verdicts about noise: golden values from textbooks and from scipy, and simulated sessions whose truth is known."""

from math import inf
from random import Random
from statistics import median, stdev

import pytest

from kvmharness.results.noise import (
    Comparison,
    Noise,
    Outcome,
    holm,
    judge,
    judge_all,
    judge_exact,
    median_test_p,
    run_noise,
    student_t,
    student_t_cdf,
)

Runs = list[list[float]]


def session(random: Random, centre: float, *, runs: int = 4, samples: int = 20, between: float, within: float) -> Runs:
    """Runs of one thing: each has an offset of its own, and samples around it; both relative."""
    result = []
    for _ in range(runs):
        own = centre * (1 + random.gauss(0, between))
        result.append([own * (1 + abs(random.gauss(0, within))) for _ in range(samples)])
    return result


class TestDistributions:
    @pytest.mark.parametrize(
        ("freedom", "t"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (10, 2.228), (120, 1.980)]
    )
    def test_t_has_the_values_of_the_printed_table(self, freedom: int, t: float) -> None:
        assert student_t(0.975, freedom) == pytest.approx(t, abs=5e-4)

    @pytest.mark.parametrize(
        ("freedom", "within"),
        [
            (1, 1e-12),
            (2, 1e-12),
            (3, 1e-12),
            (6, 1e-12),
            (7, 1e-12),
            (51, 1e-12),
            (300, 1e-12),
            (301, 1e-6),
            (50_000, 1e-9),
        ],
    )
    def test_t_agrees_with_scipy(self, freedom: int, within: float) -> None:
        scipy_stats = pytest.importorskip("scipy.stats")
        for t in (0.0, 0.3, 1.0, 2.5, 10.0):
            assert student_t_cdf(t, freedom) == pytest.approx(scipy_stats.t.cdf(t, freedom), abs=within)

    def test_t_ends_at_one(self) -> None:
        assert student_t_cdf(inf, 2) == student_t_cdf(inf, 1000) == 1
        assert student_t_cdf(0, 5) == 0.5


class TestHolm:
    def test_textbook_example(self) -> None:
        # p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") in R
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

    def test_never_exceeds_one_and_takes_nothing(self) -> None:
        assert holm([0.9, 0.8]) == (1.0, 1.0)
        assert holm([]) == ()


class TestMedians:
    def test_small_case_by_hand(self) -> None:
        # 20 ways of choosing three of 1..6, and only {1, 2, 3} and {4, 5, 6} have none on one side of 3.5.
        assert median_test_p([1, 2, 3], [4, 5, 6]) == pytest.approx(2 / 20)

    def test_equal_samples_say_nothing(self) -> None:
        assert median_test_p([5, 5, 5], [5, 5, 5]) == 1

    @pytest.mark.parametrize(("count_a", "count_b"), [(20, 30), (30, 20), (25, 25)])
    def test_samples_of_two_values_only_are_told_apart(self, count_a: int, count_b: int) -> None:
        assert median_test_p([100] * count_a, [101] * count_b) < 1e-9

    @pytest.mark.parametrize("seed", range(20))
    def test_agrees_with_scipy(self, seed: int) -> None:
        scipy_stats = pytest.importorskip("scipy.stats")
        random = Random(seed)
        a, b = ([random.gauss(centre, 1) for _ in range(random.randrange(2, 80))] for centre in (10, 10.4))
        centre = median([*a, *b])
        above = [[sum(value > centre for value in side), sum(value <= centre for value in side)] for side in (a, b)]
        at_least = [[sum(value >= centre for value in side), sum(value < centre for value in side)] for side in (a, b)]
        theirs = [scipy_stats.fisher_exact(table).pvalue for table in (above, at_least)]
        assert any(median_test_p(a, b) == pytest.approx(p, abs=1e-9) for p in theirs)

    def test_many_samples_are_no_more_than_few(self) -> None:
        assert median_test_p(range(30_000), range(30_000, 60_000)) == pytest.approx(0, abs=1e-300)
        assert median_test_p(range(0, 60_000, 2), range(1, 60_000, 2)) > 0.9


class TestNoise:
    def test_pools_deviations_of_run_medians(self) -> None:
        # 90 and 110: deviation sqrt(200) around 100; the other thing never moved.
        noise = run_noise([[90, 110], [5, 5]])
        assert noise.deviation == pytest.approx((200 / 2) ** 0.5 / 100)
        assert noise.freedom == 2

    def test_agrees_with_the_standard_deviation(self) -> None:
        medians = [4.5, 5.375, 6.0, 4.0]
        assert run_noise([medians]).deviation == pytest.approx(stdev(medians) / 4.9375)

    def test_single_runs_tell_nothing(self) -> None:
        assert run_noise([[2], [4.5]]) == Noise(0.0, 0)


class TestJudge:
    def test_sees_an_eighth(self) -> None:
        random = Random(5)
        a = session(random, 20_000, between=0.005, within=0.01)
        b = session(random, 17_500, between=0.005, within=0.01)
        found = judge(a, b)
        assert found.outcome == Outcome.LOWER
        assert found.change == pytest.approx(-0.125, abs=0.01)
        assert found.interval.low <= -0.125 <= found.interval.high
        assert found.samples == (80, 80)
        assert judge(b, a).outcome == Outcome.HIGHER

    def test_says_same_only_when_a_change_would_have_been_seen(self) -> None:
        quiet = [[100.0 + i % 2 * 0.1 for i in range(20)] for _ in range(4)]
        found = judge(quiet, quiet)
        assert found.outcome == Outcome.SAME
        assert found.detectable <= 0.02
        random = Random(6)
        loud = [session(random, 100, between=0.05, within=0.01) for _ in range(2)]
        found = judge(*loud)
        assert found.outcome == Outcome.INCONCLUSIVE
        assert found.detectable > 0.02
        assert f"{found.detectable:.2%}" in found.reason

    def test_runs_that_differ_among_themselves_explain_a_difference(self) -> None:
        # Every sample of B is above every one of A, yet A's own two runs differ by as much.
        a = [[100 + i / 100 for i in range(20)], [104 + i / 100 for i in range(20)]]
        b = [[105 + i / 100 for i in range(20)], [109 + i / 100 for i in range(20)]]
        found = judge(a, b)
        assert found.outcome == Outcome.INCONCLUSIVE
        assert found.noise > found.change

    def test_one_run_each_is_no_evidence(self) -> None:
        found = judge([[100.0] * 20], [[50.0] * 20])
        assert found.outcome == Outcome.INCONCLUSIVE
        assert "noise floor is unknown" in found.reason

    def test_one_run_each_with_the_sessions_noise_is(self) -> None:
        found = judge(
            [[100.0 + i / 10 for i in range(20)]], [[50.0 + i / 10 for i in range(20)]], noise=Noise(0.01, 20)
        )
        assert found.outcome == Outcome.LOWER

    def test_too_few_samples_cannot_be_significant(self) -> None:
        assert judge([[100], [101]], [[50], [51]]).outcome == Outcome.INCONCLUSIVE

    def test_a_change_within_the_tolerance_is_none(self) -> None:
        a = [[1000.0 + i for i in range(10)] for _ in range(4)]
        b = [[1005.0 + i for i in range(10)] for _ in range(4)]
        assert judge(a, b).outcome == Outcome.SAME
        assert judge(a, b, tolerance=0.001).outcome == Outcome.HIGHER

    def test_repeats_exactly(self) -> None:
        random = Random(7)
        a, b = (session(random, 100, between=0.01, within=0.02) for _ in range(2))
        assert judge(a, b) == judge(a, b)

    @pytest.mark.parametrize(("a", "b"), [([], [[1]]), ([[1]], [[]]), ([[0]], [[1]])])
    def test_refuses_what_cannot_be_compared(self, a: Runs, b: Runs) -> None:
        with pytest.raises(ValueError, match="cannot"):
            judge(a, b)


class TestExact:
    @pytest.mark.parametrize(
        ("a", "b", "outcome"),
        [(100, 100, Outcome.SAME), (100, 99, Outcome.LOWER), (100, 101, Outcome.HIGHER)],
    )
    def test_any_difference_of_the_least_samples_counts(self, a: int, b: int, outcome: Outcome) -> None:
        found = judge_exact([[a, 140], [160]], [[150], [b]])
        assert (found.outcome, found.median_a, found.median_b) == (outcome, a, b)

    def test_tolerance(self) -> None:
        assert judge_exact([[1000]], [[1005]], tolerance=0.01).outcome == Outcome.SAME

    def test_refuses_no_reference(self) -> None:
        with pytest.raises(ValueError, match="reference"):
            judge_exact([[0]], [[1]])


def _sessions(random: Random, *, shift: float = 1.0) -> dict[int, tuple[Runs, Runs]]:
    def one(centre: float) -> Runs:
        return session(random, centre, runs=2, samples=10, between=0.02, within=0.02)

    return {cell: (one(1000 * cell), one(1000 * cell * shift)) for cell in range(1, 7)}


def _outcomes(comparisons: dict[int, Comparison]) -> set[Outcome]:
    return {comparison.outcome for comparison in comparisons.values()}


@pytest.mark.slow
def test_a_against_a_hardly_ever_says_changed() -> None:
    random = Random(8)
    wrong = sum(bool(_outcomes(judge_all(_sessions(random))) & {Outcome.LOWER, Outcome.HIGHER}) for _ in range(40))
    assert wrong <= 4  # 5 % of 40 is 2; more than 4 would happen once in twenty such tests


@pytest.mark.slow
def test_many_cells_together_see_what_two_runs_alone_could_not() -> None:
    pairs = _sessions(Random(9), shift=0.8)
    assert _outcomes(judge_all(pairs)) == {Outcome.LOWER}
