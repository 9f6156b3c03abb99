"""Marks: ``needs(NAME, ...)`` skips a test, with reason and fix, on a host that lacks what it names."""

import pytest

from kvmharness.errors import UsageError
from kvmharness.hosts import HostFacts, all_unmet, check_names, facts

_FACTS = pytest.StashKey[HostFacts]()


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(*names): what the host must offer, by the names of kvmharness.hosts")


def pytest_collection_modifyitems(config, items):
    for item in items:
        for mark in item.iter_markers("needs"):
            try:
                check_names(mark.args)
            except UsageError as error:
                raise pytest.UsageError(f"{item.nodeid}: {error} {error.hint}") from error


def pytest_runtest_setup(item):
    marks = list(item.iter_markers("needs"))
    if not marks:
        return
    found = item.config.stash.setdefault(_FACTS, None) or facts()
    item.config.stash[_FACTS] = found
    if lacks := all_unmet((name for mark in marks for name in mark.args), found):
        pytest.skip("; ".join(map(str, lacks)))
