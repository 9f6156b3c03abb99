"""One program of a suite that others wrote: what runs it, and what is made of what came of it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

from kvmharness.cells.params import Params
from kvmharness.errors import UsageError
from kvmharness.lab.steps import Call, Exec, Exited
from kvmharness.results.tests import PASS

# What changes from run to run: times, of five digits or more or by their unit, and 64-bit words.
_CHANGING = re.compile(r"\b0x[0-9a-fA-F]{9,}\b|\b\d{5,}(?:\.\d+)?\b|\b\d+(?= (?:cycles|ticks|ns|us|ms)\b)")


@dataclass(slots=True)
class Ran:
    """What came of a program.

    Attributes:
        output: what it printed.
        data: what a called function emitted, in order.
        ended: how an executed program ended; None for a call, and for one that did not end.
        failed: why it could not be started, or broke off; empty when it did not.
        lost: HANG or PANIC when the host was lost meanwhile; empty when it was not.
        why: in a line, what the host said as it was lost.
        table: likewise, the report.
    """

    output: str = ""
    data: list[Mapping[str, Any]] = field(default_factory=list)
    ended: Exited | None = None
    failed: str = ""
    lost: str = ""
    why: str = ""
    table: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that a program says holds or does not hold.

    Attributes:
        name: unique within the suite: the program's, and what comes behind it for one of several.
        outcome: see :class:`kvmharness.results.tests.TestResult`.
        why: in a line, unless it passed: the same for the same failure, see :func:`steady`.
        output: the lines by which it was judged; of one that did not pass.
    """

    name: str
    outcome: str = PASS
    why: str = ""
    output: tuple[str, ...] = ()


def steady(text: str) -> str:
    """A text without the numbers that change from run to run."""
    return _CHANGING.sub("N", text.strip())


class SuiteTest(Protocol):
    """A program of a suite."""

    @property
    def battery(self) -> str:
        """The suite: SELFTESTS or UNIT_TESTS of :mod:`kvmharness.results.tests`."""
        ...

    @property
    def name(self) -> str:
        """Unique within the suite."""
        ...

    @property
    def missing(self) -> str:
        """Why it cannot run anywhere, such as that it does not build; empty when it can."""
        ...

    @property
    def params(self) -> Params:
        """Parameters of KVM's modules that it asks for."""
        ...

    @property
    def alone(self) -> bool:
        """Whether it wants a host that ran nothing before."""
        ...

    @property
    def timeout_s(self) -> float:
        """Its limit, by the clock of the host that it runs in, which sees to it."""
        ...

    @property
    def files(self) -> Mapping[str, Path]:
        """What an emulated host must hold for it, by path inside."""
        ...

    def step(self, *, inside: bool) -> Exec | Call:
        """What runs it.

        Args:
            inside: an emulated host, which has the files by their path inside; otherwise they are where they are.
        """
        ...

    def judged(self, ran: Ran) -> Sequence[Line]:
        """What came of it; the last one has the test's own name, and is about all of it."""
        ...


def chosen(tests: Iterable[SuiteTest], patterns: Sequence[str]) -> list[SuiteTest]:
    """The tests whose name matches one of the shell patterns; all without patterns.

    Raises:
        UsageError: a pattern matches none.
    """
    every = list(tests)
    for pattern in patterns:
        if not any(fnmatchcase(test.name, pattern) for test in every):
            raise UsageError(f"no test is called {pattern!r}", "--list names them all.")
    return [test for test in every if not patterns or any(fnmatchcase(test.name, each) for each in patterns)]
