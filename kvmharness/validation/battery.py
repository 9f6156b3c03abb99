"""The batteries of a validation, under every variant that is judged: litmus tests, all named ones and two random ones,
and suites that others wrote."""

from collections.abc import Sequence
from dataclasses import replace

from kvmharness.cells.params import Params
from kvmharness.cells.surroundings import Surroundings
from kvmharness.kvm.nested import find_vendor
from kvmharness.lab.job import Machine, StepFailedError
from kvmharness.lab.kernels import parameters
from kvmharness.lab.kernels.selftests import build
from kvmharness.litmus.hunt.generate import one
from kvmharness.litmus.named.all import every
from kvmharness.litmus.needs import offers
from kvmharness.litmus.program import Program
from kvmharness.results.record import Record
from kvmharness.results.tests import TestResult
from kvmharness.suites.selftests import selftests
from kvmharness.suites.test import SuiteTest
from kvmharness.system.programs import Progress, silent
from kvmharness.validation.campaign import Variant
from kvmharness.validation.litmus import OnTest, Tested, run_litmus, settings
from kvmharness.validation.prepare import Built
from kvmharness.validation.probing import surroundings_of
from kvmharness.validation.suites import TestsFor, run_suites
from kvmharness.validation.validate import MachineFor
from kvmharness.vendors.known import by_asid

_SEED = 1
# What shadow paging takes away: a random test that never uses it runs under every setting.
_ONLY_WITH_TDP = frozenset({"nested", "large", "accessed", "invept", "vmfunc", "cr3-kept"})


def with_litmus(record: Record, built: Built, machine_for: MachineFor, on_test: OnTest) -> Record:
    """The record of what was measured, with litmus tests under the same variants.

    Args:
        record: of the measured cells; tests that it has already are not run again.
        built: what they ran on.
        machine_for: makes the host for a kernel.
        on_test: takes each result as it comes.

    Raises:
        LostMachineError: the host was lost for reasons of its own.
    """
    module = record.host.get("vendor_module")
    if module is None:
        return record
    groups = _groups(record, built, machine_for)
    tested = [found for machine, group in groups if (found := _run(machine, group, str(module), record.tests, on_test))]
    return _with(record, tested)


def with_suites(
    record: Record,
    built: Built,
    machine_for: MachineFor,
    tests_for: TestsFor,
    settings: Sequence[Params],
    on_test: OnTest,
) -> Record:
    """The record of what was measured, with tests of suites under the same variants.

    Args:
        record, built, machine_for, on_test: as for :func:`with_litmus`.
        tests_for: the tests for a variant.
        settings: parameters to load modules with.

    Raises:
        LostMachineError, StepFailedError: as :func:`kvmharness.validation.suites.run_suites`.
    """
    groups = _groups(record, built, machine_for)
    results, tested = list(record.tests), []
    for machine, group in groups:
        base = groups[0][1][0].id.name
        tested.append(run_suites(machine, group, settings, tests_for, on_test, known=results, base=base))
        results += tested[-1].tests
    return _with(record, tested)


def selftests_of(built: Built, progress: Progress = silent) -> TestsFor:
    """Selftests for :func:`with_suites`: those of a variant's own tree, built when they are asked for.

    Args:
        built: the variants.
        progress: takes a line about once a second while they are built.
    """
    changed = {variant.name: variant.files for variant in built.plan.variants}

    def made(variant: Variant) -> Sequence[SuiteTest]:
        tree = built.kernels[variant.id.name].tree
        if tree is None:  # a kernel that was given as it is
            return ()
        return selftests(build(tree, changed[variant.id.name], progress=progress))

    return made


def _groups(record: Record, built: Built, machine_for: MachineFor) -> list[tuple[Machine, Sequence[Variant]]]:
    """The variants that are judged, by the kernel that they run under."""
    lost = {loss.variant for loss in record.losses}
    judged = [each for each in built.variants if each.id.name in built.subject.prefixes and each.id.name not in lost]
    groups = [judged] if built.one_boot else [[variant] for variant in judged]
    return [(machine_for(built.kernels[group[0].id.name]), group) for group in groups if group]


def _with(record: Record, tested: Sequence[Tested]) -> Record:
    logs = tuple(log for each in tested for log in each.logs)
    new = [test for each in tested for test in each.tests]
    names = {(test.battery, test.variant, test.label) for test in new}
    kept = [test for test in record.tests if (test.battery, test.variant, test.label) not in names]
    return replace(
        record,
        tests=(*kept, *new),
        logs=(*record.logs, *logs),
        dmesg=(*record.dmesg, *(line for log in logs for line in log.lines)),
    )


def _run(
    machine: Machine,
    variants: Sequence[Variant],
    vendor_module: str,
    known: Sequence[TestResult],
    on_test: OnTest,
) -> Tested | None:
    modules = variants[0].modules
    chosen = settings(vendor_module, parameters.of_modules(modules))
    try:
        there = surroundings_of(machine, modules, chosen)[chosen[0]]  # which the tests are planned for, too
        return run_litmus(machine, variants, chosen, (*every(), *_random(there)), on_test, known=known)
    except StepFailedError:  # modules that do not load: the cells have said so
        return None


def _random(there: Surroundings) -> tuple[Program, ...]:
    vendor = find_vendor(there.offered)
    has = offers(vendor, there.offered)
    return tuple(
        one(f"random-{_SEED}-{number}", chosen, svm=by_asid(vendor))
        for number, chosen in enumerate((has, has - _ONLY_WITH_TDP))
    )
