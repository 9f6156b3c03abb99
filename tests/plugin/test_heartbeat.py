"""What tells a host at work from one that hangs: signs of life from inside, until the tests are over."""

import time

import pytest

from kvmharness.testing.emulated import heartbeat


@pytest.fixture
def body(monkeypatch):
    """Puts a function in the place of the one that runs the tests."""

    def put(function):
        monkeypatch.setattr(heartbeat, "_RUN", (__name__, "RUN"))
        monkeypatch.setitem(globals(), "RUN", function)
        monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.005)

    return put


def test_signs_of_life_while_the_tests_run_and_none_afterwards(body):
    said = []

    def work(emit, **arguments):
        emit({"arguments": arguments})
        until = time.monotonic() + 10
        while said.count({"pytest": "alive"}) < 3 and time.monotonic() < until:
            sum(range(1000))  # Python's own loops let other threads in

    body(work)
    heartbeat.run(said.append, folder="/suite")
    assert {"arguments": {"folder": "/suite"}} in said
    assert said.count({"pytest": "alive"}) >= 3
    number = len(said)
    time.sleep(0.03)
    assert len(said) == number


def test_none_after_tests_that_end_badly_either(body):
    said = []

    def fails(emit):
        raise RuntimeError("inside")

    body(fails)
    with pytest.raises(RuntimeError, match="inside"):
        heartbeat.run(said.append)
    number = len(said)
    time.sleep(0.03)
    assert len(said) == number
