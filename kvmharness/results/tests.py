"""What came of a test that either holds or does not: a litmus test, or one of any other battery."""

from collections.abc import Iterable, Mapping

from kvmharness.lean.dataclasses import dataclass, field, fields
from kvmharness.results.jsonread import Fields, ShapeError, integer_map, text, text_map, texts

PASS, FAIL, SKIP, HANG, PANIC = "pass", "fail", "skip", "hang", "panic"
BAD = (FAIL, HANG, PANIC)
"""What counts as a failure; the last two are those that a host may not survive."""

_WORDS = {PASS: "passed", FAIL: "failed", HANG: "hung", PANIC: "took the kernel down", SKIP: "skipped"}

LITMUS = "litmus"
SELFTESTS = "selftests"
UNIT_TESTS = "unit-tests"
BUILDS = "builds"
"""The battery of one test a way to configure the kernel, and one for what the compiler warns of when it is asked to."""
DEBUG_KERNEL = "debug-kernel"
"""The battery of one test a variant: named by what was going on at the kernel's first report, which is its table."""


@dataclass(frozen=True, slots=True)
class TestResult:
    """One test under one variant.

    Attributes:
        battery: what it is one of: LITMUS, SELFTESTS, UNIT_TESTS, BUILDS or DEBUG_KERNEL.
        name: of the test.
        variant: that it ran under.
        params: module parameters that were asked for.
        outcome: PASS, SKIP, or one of BAD.
        why: in a line, unless it passed.
        table: what it did, what was expected and what was seen, a line each; of a test that failed.
        counts: KVM's statistics over all of it.
    """

    __test__ = False  # pytest is not to collect it

    battery: str
    name: str
    variant: str
    params: Mapping[str, str] = field(default_factory=dict)
    outcome: str = PASS
    why: str = ""
    table: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name with its parameters: ``wp/kvm.tdp_mmu=N``."""
        return "/".join([self.name, *(f"{name}={value}" for name, value in sorted(self.params.items()))])

    def to_json(self) -> dict[str, object]:
        """Plain JSON values."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


def program_of(test: TestResult) -> str:
    """The program that a test is a line of: its name up to the colon."""
    return test.name.partition(":")[0]


def of_variant(tests: Iterable[TestResult], battery: str, variant: str) -> tuple[TestResult, ...]:
    """Those of one battery under one variant."""
    return tuple(test for test in tests if (test.battery, test.variant) == (battery, variant))


def tally(tests: Iterable[TestResult]) -> str:
    """``61 passed, 2 failed, 1 hung, 25 skipped``."""
    counts = dict.fromkeys(_WORDS, 0)
    for test in tests:
        counts[test.outcome] += 1
    return ", ".join(
        f"{counts[key]} {word}" for key, word in _WORDS.items() if counts[key] or key in (PASS, FAIL, SKIP)
    )


def read_test(value: object, where: str) -> TestResult:
    """Reads one. Raises: ShapeError, for what is none."""
    with Fields(value, where) as taken:
        return TestResult(
            battery=taken.take("battery", text),
            name=taken.take("name", text),
            variant=taken.take("variant", text),
            params=taken.take("params", text_map),
            outcome=taken.take("outcome", _outcome),
            why=taken.take("why", text),
            table=taken.take("table", texts),
            counts=taken.take("counts", integer_map),
        )


def _outcome(value: object, where: str) -> str:
    if (found := text(value, where)) not in _WORDS:
        raise ShapeError(f"{where}: expected one of {', '.join(_WORDS)}, found {found!r}")
    return found
