"""Whether a variant makes the debug kernel report something: the first report of each, against the kernel without."""

from collections.abc import Iterable, Iterator, Sequence

from kvmharness.claims.findings import Finding
from kvmharness.claims.metrics import form
from kvmharness.results.tests import DEBUG_KERNEL, FAIL, PASS, SKIP, TestResult
from kvmharness.results.verdict import Outcome


def quiet(tests: Iterable[TestResult], base: str, variants: Sequence[str]) -> Iterator[Finding]:
    """A finding for each variant; only that it was not asked for, where nothing was run under that kernel.

    Args:
        tests: of the run; those of other batteries are left alone.
        base: the kernel without the series; what is reported there too is nobody's fault, but hides what would follow.
        variants: those that are judged.
    """
    ran = {test.variant: test for test in tests if test.battery == DEBUG_KERNEL}
    if not ran:
        yield Finding(Outcome.SKIPPED, "", "not asked for: --debug-kernel builds that kernel, once, and boots it")
        return
    before = ran.get(base)
    for variant in variants:
        test = ran.get(variant)
        if test is None or test.outcome == SKIP:
            why = test.why if test else "it did not run"
            yield Finding(Outcome.INCONCLUSIVE, "", f"{variant}: {why}", variant)
        elif test.outcome == PASS:
            yield Finding(Outcome.PASS, "", "no report under the debug kernel", variant)
        elif before and before.outcome == FAIL and form(before.why) == form(test.why):
            line = f"{variant}: {base} fails there in the same way: {test.why}"
            yield Finding(Outcome.INCONCLUSIVE, "", line, variant)
        else:
            during = f", {test.name}" * bool(test.name)
            # The report is the evidence, so all of it is shown.
            yield Finding(Outcome.FAIL, "", "\n".join([f"{variant}{during}: {test.why}", *test.table]), variant)
