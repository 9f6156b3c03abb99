"""The kernel's own KVM selftests as tests of a suite: each is a program that says by its exit status what came of it.

Source: tools/testing/selftests/kselftest.h, and lib/assert.c in that of KVM.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvmharness.cells.params import Params
from kvmharness.lab.inside.modules import BUSYBOX
from kvmharness.lab.kernels.selftests import Selftests
from kvmharness.lab.steps import Exec, Exited
from kvmharness.results.tests import FAIL, HANG, PASS, SELFTESTS, SKIP
from kvmharness.suites.test import Line, Ran, steady

TIMEOUT_S = 6.0
_SKIP_STATUS = 4  # KSFT_SKIP
_FOLDER = "selftests"
# If memory runs out, it is the test that is to end, and not the agent.
_FIRST_TO_GO = 'echo 1000 >/proc/self/oom_score_adj; exec "$0"'
_LINES, _LINE = 100, 400  # kept of what one prints
_ASSERTED = "==== Test Assertion Failure ===="
_SKIPS = re.compile(r"skip", re.IGNORECASE)
_SKIP_WORDS = re.compile(r"^(?:1\.\.0|ok \d+)?\s*#?\s*SKIP[:\s-]*|,? *skipping(?: the)? test\.*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SelfTest:
    """One of them (see :class:`kvmharness.suites.test.SuiteTest`).

    Attributes:
        name: as in the kernel's tree.
        binary: where it is; None for one that does not build.
        missing, timeout_s: see the protocol.
    """

    name: str
    binary: Path | None = None
    missing: str = ""
    timeout_s: float = TIMEOUT_S

    battery = SELFTESTS
    alone = False
    params: Params = ()

    @property
    def files(self) -> Mapping[str, Path]:
        """The binary."""
        return {f"{_FOLDER}/{self.name}": self.binary} if self.binary else {}

    def step(self, *, inside: bool) -> Exec:
        """Runs it, with the C library that an emulated host has for its interpreter."""
        if not inside:
            return Exec((str(self.binary),), self.timeout_s)
        argv = (BUSYBOX, "sh", "-c", _FIRST_TO_GO, f"/{_FOLDER}/{self.name}")
        return Exec(argv, self.timeout_s, {"LD_LIBRARY_PATH": "/lib"})

    def judged(self, ran: Ran) -> Sequence[Line]:
        """One line."""
        output = tuple(line[:_LINE] for line in ran.output.splitlines())
        outcome, why = self._judged(ran, output)
        told = () if outcome == PASS else (*output[-_LINES:], *filter(None, [ran.why]), *ran.table)
        return (Line(self.name, outcome, why, told),)

    def _judged(self, ran: Ran, output: Sequence[str]) -> tuple[str, str]:
        if ran.lost == HANG or (ran.ended and ran.ended.timed_out):
            # Whether that is seen from inside or from outside depends on what else goes on there.
            return HANG, f"it did not end within {self.timeout_s:g} s"
        if ran.lost:
            return ran.lost, ran.why
        if ran.failed or ran.ended is None:
            return FAIL, ran.failed or "it did not run"
        if ran.ended.status == 0:
            return PASS, ""
        # An assertion that fails while errno happens to be EACCES ends as a skip, too.
        if ran.ended.status == _SKIP_STATUS and _ASSERTED not in output:
            return SKIP, _why_skipped(output)
        return FAIL, _why_failed(output, ran.ended)


def selftests(built: Selftests) -> tuple[SelfTest, ...]:
    """Those of a tree, by name; the ones that do not build as well."""
    every = [SelfTest(name, path) for name, path in built.binaries.items()]
    every += [SelfTest(name, missing=why) for name, why in built.missing.items()]
    return tuple(sorted(every, key=lambda test: test.name))


def _why_skipped(output: Sequence[str]) -> str:
    """Its own words."""
    said = [line for line in output if _SKIPS.search(line)] or [line for line in output if line.strip()]
    return steady(_SKIP_WORDS.sub("", said[-1].strip())) if said else "it does not say why"


def _why_failed(output: Sequence[str], ended: Exited) -> str:
    """The assertion that did not hold, where, and what is said of it; or how it ended."""
    if _ASSERTED in output[:-1]:
        place, _, *rest = (*output[output.index(_ASSERTED) + 1 :], "")
        # Behind the line with the process' number, and a stack if there was what shows one.
        said = next((line.strip() for line in rest if re.match(r"  [^\s(]", line)), "")
        return steady("; ".join(filter(None, (place.strip(), said))))
    if ended.signal is not None:
        return f"ended by {ended.signal}"
    reported = next((line for line in output if line.startswith("not ok ")), "")
    return steady(reported) or f"exit status {ended.status}"
