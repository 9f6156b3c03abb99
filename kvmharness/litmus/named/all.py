"""All named tests."""

from fnmatch import fnmatchcase
from functools import cache

from kvmharness.errors import UsageError
from kvmharness.litmus.named import host, tables, tags
from kvmharness.litmus.program import Program


@cache
def every() -> tuple[Program, ...]:
    """In the order of the rules."""
    groups = (
        *(tables.EDITS, tags.PCIDS, tags.TAGS, tags.NESTED, tables.ACCESSED_DIRTY, host.DIRTY_LOG, tables.ROLES),
        *(host.BAD_VALUES, host.MMIO, host.MEMSLOTS, host.NESTED_STATE, host.VCPUS, tags.EPTP_SWITCHING, host.WELL),
    )
    return tuple(test for group in groups for test in group)


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
