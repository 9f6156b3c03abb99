"""What a validation runs besides the measured cells, each battery in the same form."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from kvmharness.cells.params import Params
from kvmharness.cells.surroundings import Surroundings
from kvmharness.kvm.nested import find_vendor
from kvmharness.lab.job import Machine, StepFailedError
from kvmharness.litmus.hunt.generate import one
from kvmharness.litmus.named.all import every
from kvmharness.litmus.needs import offers
from kvmharness.litmus.program import Program
from kvmharness.results.record import Record
from kvmharness.results.tests import BAD, BUILDS, DEBUG_KERNEL, LITMUS, TestResult, program_of
from kvmharness.suites.test import SuiteTest
from kvmharness.system.programs import Progress
from kvmharness.validation.builds import build_checks
from kvmharness.validation.campaign import Variant
from kvmharness.validation.debugkernel import DebugPass
from kvmharness.validation.litmus import OnTest, Tested, joined, run_litmus
from kvmharness.validation.look import Look
from kvmharness.validation.prepare import Built
from kvmharness.validation.probing import surroundings_of
from kvmharness.validation.suites import run_suites
from kvmharness.validation.validate import MachineFor
from kvmharness.vendors.known import by_asid

_SEED = 1
# What shadow paging takes away: a random test that never uses it runs under every setting.
_ONLY_WITH_TDP = frozenset({"nested", "large", "accessed", "invept", "vmfunc", "cr3-kept"})


Tests = Mapping[str, Sequence[SuiteTest]]
"""By the name of the variant: a series may change them."""


@dataclass(frozen=True, slots=True)
class Battery:
    """What is run under the variants of a series besides the measured cells.

    Attributes:
        name: as its results have it.
        units: how much there is to do: variants times settings, say.
        run: takes the record by now, results that there are already, and what takes each new one.
    """

    name: str
    units: int
    run: Callable[[Record, Sequence[TestResult], OnTest], Tested]


def litmus_tests(built: Built, machine_for: MachineFor, chosen: Sequence[Params]) -> Battery:
    """All named litmus tests and two random ones, under every variant that is judged.

    Args:
        built: the variants.
        machine_for: makes the host for a kernel.
        chosen: module parameters to run them under, each set in turn.
    """

    def run(record: Record, known: Sequence[TestResult], on_test: OnTest) -> Tested:
        """Raises: LostMachineError, when the host was lost for reasons of its own."""
        return joined(
            _litmus(machine_for(built.kernels[group[0].id.name]), group, chosen, known, on_test)
            for group in groups(record, built)
        )

    return Battery(LITMUS, len(built.subject.prefixes) * len(chosen), run)


def suite(name: str, built: Built, machine_for: MachineFor, chosen: Sequence[Params], tests: Tests) -> Battery:
    """A suite that others wrote, under every variant that is judged.

    Under module parameters other than the first set only the kernel without the series and the whole series are asked,
    and the prefixes between them about those tests in which these two differ; and nothing that fails without the
    series as it is, since most of that is what an emulator cannot do, and hangs for as long as it may.

    Args:
        name: of the suite.
        built, machine_for, chosen: as :func:`litmus_tests`.
        tests: by the name of the variant.
    """

    def run(record: Record, known: Sequence[TestResult], on_test: OnTest) -> Tested:
        """Raises: LostMachineError, StepFailedError, when a host was lost for reasons of its own."""
        there = groups(record, built)
        return _Suite(there, built, machine_for, list(known), on_test).run(chosen, tests) if there else Tested((), ())

    return Battery(name, len(built.subject.prefixes) + 2 * (len(chosen) - 1), run)


@dataclass(frozen=True, slots=True)
class _Suite:
    """A suite that is run.

    Attributes:
        groups: the variants, together those that the same kernel can run.
        built, machine_for, on_test: as elsewhere.
        known: results that there are by now.
    """

    groups: Sequence[Sequence[Variant]]
    built: Built
    machine_for: MachineFor
    known: list[TestResult]
    on_test: OnTest

    def run(self, chosen: Sequence[Params], tests: Tests) -> Tested:
        names = [variant.id.name for group in self.groups for variant in group]
        base, *between = names[:-1] or names
        ends = dict.fromkeys((base, names[-1]))
        found = [self._under(names, chosen[0], tests)]
        bad = {program_of(test) for test in found[0].tests if test.variant == base and test.outcome in BAD}
        others = {name: [test for test in its if test.name not in bad] for name, its in tests.items()}
        for params in chosen[1:]:
            found.append(self._under(ends, params, others))
            differing = {program_of(test) for test in differences(found[-1].tests, base)}
            its = {name: [test for test in others[name] if test.name in differing] for name in between}
            found.append(self._under(between, params, its))
        return joined(found)

    def _under(self, names: Collection[str], params: Params, tests: Tests) -> Tested:
        found = joined(
            run_suites(
                self.machine_for(self.built.kernels[group[0].id.name]),
                chosen,
                [params],
                lambda variant: tests[variant.id.name],
                self.on_test,
                known=self.known,
                base=self.groups[0][0].id.name,
            )
            for group in self.groups
            if (chosen := [variant for variant in group if variant.id.name in names])
        )
        self.known.extend(found.tests)
        return found


def differences(tests: Iterable[TestResult], base: str) -> list[TestResult]:
    """Those that are not as they are under the variant *base*, and those of it that the others lack."""
    by_variant: dict[bool, dict[str, TestResult]] = {True: {}, False: {}}
    for test in tests:
        by_variant[test.variant == base][test.label] = test
    before, after = by_variant[True], by_variant[False]
    return [
        (after.get(label) or before[label])
        for label in dict.fromkeys([*before, *after])
        if label not in before
        or label not in after
        or (before[label].outcome, before[label].why) != (after[label].outcome, after[label].why)
    ]


def builds(seen: Look, progress: Progress, tell: Progress) -> Battery:
    """Every prefix, built in other ways than the one that is run."""

    def run(record: Record, known: Sequence[TestResult], on_test: OnTest) -> Tested:
        """Raises: KernelBuildError, when the kernel without the series does not build."""
        tests = build_checks(seen, progress, tell)
        for test in tests:
            on_test(test)
        return Tested(tests, ())

    return Battery(BUILDS, len(seen.plan.prefixes), run)


def debug_kernel(planned: DebugPass, tell: Progress) -> Battery:
    """Every variant once more, under the debug kernel."""

    def run(record: Record, known: Sequence[TestResult], on_test: OnTest) -> Tested:
        return Tested(planned.run(tell, on_test, known), ())

    return Battery(DEBUG_KERNEL, len(planned.built.variants), run)


def groups(record: Record, built: Built) -> list[Sequence[Variant]]:
    """The variants that are judged and that load, together those that the same kernel can run."""
    lost = {loss.variant for loss in record.losses}
    judged = [each for each in built.variants if each.id.name in built.subject.prefixes and each.id.name not in lost]
    if built.one_boot:
        return [judged] if judged else []
    return [[variant] for variant in judged]


def _litmus(
    machine: Machine,
    variants: Sequence[Variant],
    chosen: Sequence[Params],
    known: Sequence[TestResult],
    on_test: OnTest,
) -> Tested:
    modules = variants[0].modules
    try:
        there = surroundings_of(machine, modules, chosen)[chosen[0]]  # which the tests are planned for, too
        return run_litmus(machine, variants, chosen, (*every(), *_random(there)), on_test, known=known)
    except StepFailedError:  # modules that do not load: the cells have said so
        return Tested((), ())


def _random(there: Surroundings) -> tuple[Program, ...]:
    vendor = find_vendor(there.offered)
    has = offers(vendor, there.offered)
    return tuple(
        one(f"random-{_SEED}-{number}", chosen, svm=by_asid(vendor))
        for number, chosen in enumerate((has, has - _ONLY_WITH_TDP))
    )
