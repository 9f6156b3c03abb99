"""A time is a figure to keep: a test cannot pass or fail by it."""

import operator
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from kvmharness.errors import UsageError
from kvmharness.testing.fixtures import counts
from kvmharness.testing.fixtures.timing import Samples, Timing, TimingIsNoVerdictError

PAIR = SimpleNamespace(
    flags=0, session=SimpleNamespace(phase=lambda batches, round_trips, flags: tuple(range(1000, 1000 + batches)))
)


def test_samples_are_there_and_on_the_report():
    properties = []
    samples = Timing(properties, emulated=True)("round trip", PAIR, batches=3, round_trips=10)
    assert samples.ticks == (1000, 1001, 1002)
    assert list(samples) == [1000, 1001, 1002]
    assert properties == [("round trip (instructions (emulated), 10 round trips)", "1000 1001 1002")]
    assert "median 100.1 instructions (emulated) a round trip" in repr(samples)


@pytest.mark.parametrize("compare", [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne])
def test_they_cannot_be_compared(compare):
    samples = Samples((1, 2), 1, "tsc cycles")
    with pytest.raises(TimingIsNoVerdictError, match="neither good nor bad"):
        compare(samples, Samples((3, 4), 1, "tsc cycles"))
    with pytest.raises(TimingIsNoVerdictError):
        compare(samples, 100)


def test_nor_be_asserted():
    with pytest.raises(TimingIsNoVerdictError):
        assert Samples((1, 2), 1, "tsc cycles")


def test_no_time_is_taken_while_something_counts(monkeypatch):
    monkeypatch.setattr(counts, "open_counters", lambda specs: MagicMock(missing={}))
    timing = Timing([], emulated=False)
    with counts.RootLoads(), pytest.raises(UsageError, match="while something is counted"):
        timing("round trip", PAIR)
    assert len(timing("round trip", PAIR, batches=3).ticks) == 3
