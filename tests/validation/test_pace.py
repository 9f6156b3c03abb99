"""How much time is left: from what such parts took before, and nothing where that is not known."""

import pytest

from kvmharness.system import cache
from kvmharness.validation.pace import Pace

UNITS = {"vmx litmus": 3, "vmx selftests": 6}


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Clock()


def done(clock, units=UNITS):
    pace = Pace(units, clock=clock)
    for name, each in units.items():
        with pace.part(name):
            clock.now += 10.0 * each
    return pace


def test_the_first_time_nothing_is_said(clock):
    pace = Pace(UNITS, clock=clock)
    assert (pace.left, str(pace)) == (None, "part 1 of 2")


def test_another_time_it_is_what_a_unit_took(clock):
    assert done(clock).took == {"vmx litmus": 30.0, "vmx selftests": 60.0}
    pace = Pace({"vmx litmus": 6, "vmx selftests": 12}, clock=clock)
    assert str(pace) == "part 1 of 2, 3 min left"
    with pace.part("vmx litmus"):
        clock.now += 20
        assert pace.left == 40 + 120
        clock.now += 100
        assert pace.left == 120
    assert str(pace) == "part 2 of 2, 2 min left"
    with pace.part("vmx selftests"):
        clock.now += 50
        assert str(pace) == "part 2 of 2, 70 s left"


def test_a_part_that_broke_off_is_not_kept(clock):
    done(clock)
    pace = Pace(UNITS, clock=clock)
    with pytest.raises(KeyboardInterrupt), pace.part("vmx litmus"):
        raise KeyboardInterrupt
    assert Pace(UNITS, clock=clock).left == 90
    assert pace.took == {}


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b'{"vmx litmus": "x"}', b'{"vmx litmus": 1e999}', b"\xff", b"[" * 9999]
)
def test_what_was_kept_badly_is_as_if_nothing_had_been(clock, content):
    (cache.root() / "pace.json").write_bytes(content)
    assert Pace(UNITS, clock=clock).left is None


def test_a_run_that_remembers_nothing_leaves_nothing(clock):
    done(clock)
    pace = Pace(UNITS, remember=False, clock=clock)
    assert pace.left is None
    with pace.part("vmx litmus"):
        clock.now += 1e6
    assert Pace(UNITS, clock=clock).left == 90
