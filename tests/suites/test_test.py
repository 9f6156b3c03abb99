"""Choosing tests of a suite by name."""

from types import SimpleNamespace

import pytest

from kvmharness.errors import UsageError
from kvmharness.suites.test import chosen

TESTS = [SimpleNamespace(name=name) for name in ("x86_64/smm_test", "x86_64/state_test", "vmx")]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [([], [0, 1, 2]), (["vmx"], [2]), (["x86_64/*"], [0, 1]), (["vmx", "*state*"], [1, 2])],
)
def test_patterns_choose(patterns, expected):
    assert chosen(TESTS, patterns) == [TESTS[number] for number in expected]


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(UsageError, match="no test is called 'svm'"):
        chosen(TESTS, ["vmx", "svm"])
