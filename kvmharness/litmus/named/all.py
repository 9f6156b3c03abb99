"""All named tests."""

from fnmatch import fnmatchcase
from functools import cache

from kvmharness.errors import UsageError
from kvmharness.litmus.named import (
    accessed_dirty,
    bad_values,
    dirty_log,
    edits,
    eptp_switching,
    memslots,
    mmio,
    nested,
    nested_state,
    pcids,
    roles,
    tags,
    vcpus,
    well,
)
from kvmharness.litmus.program import Program


@cache
def every() -> tuple[Program, ...]:
    """In the order of the rules."""
    rules = (
        *(edits, pcids, tags, nested, accessed_dirty, dirty_log, roles),
        *(bad_values, mmio, memslots, nested_state, vcpus, eptp_switching, well),
    )
    return tuple(test for rule in rules for test in rule.TESTS)


def select(patterns: tuple[str, ...]) -> tuple[Program, ...]:
    """Those whose names a shell-style pattern matches; all without patterns.

    Raises:
        UsageError: a pattern matches none.
    """
    chosen: dict[str, Program] = {}
    for pattern in patterns or ("*",):
        found = [test for test in every() if fnmatchcase(test.name, pattern)]
        if not found:
            raise UsageError(f"no litmus test is called {pattern!r}", "`kvmharness litmus --list` shows them.")
        chosen |= {test.name: test for test in found}
    return tuple(test for test in every() if test.name in chosen)
