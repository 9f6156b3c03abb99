"""The litmus tests of a validation: all named ones and two random ones, under every variant that is judged."""

from collections.abc import Sequence
from dataclasses import replace

from kvmharness.cells.surroundings import Surroundings
from kvmharness.kvm.nested import find_vendor
from kvmharness.lab.job import Machine, StepFailedError
from kvmharness.lab.kernels import parameters
from kvmharness.litmus.hunt.generate import one
from kvmharness.litmus.named.all import every
from kvmharness.litmus.needs import offers
from kvmharness.litmus.program import Program
from kvmharness.results.record import Record
from kvmharness.validation.campaign import Variant
from kvmharness.validation.litmus import OnTest, Tested, run_litmus, settings
from kvmharness.validation.prepare import Built
from kvmharness.validation.probing import surroundings_of
from kvmharness.validation.validate import MachineFor
from kvmharness.vendors.known import by_asid

_SEED = 1
# What shadow paging takes away: a random test that never uses it runs under every setting.
_ONLY_WITH_TDP = frozenset({"nested", "large", "accessed", "invept", "vmfunc", "cr3-kept"})


def with_litmus(record: Record, built: Built, machine_for: MachineFor, on_test: OnTest) -> Record:
    """The record of what was measured, with litmus tests under the same variants.

    Args:
        record: of the measured cells.
        built: what they ran on.
        machine_for: makes the host for a kernel.
        on_test: takes each result as it comes.

    Raises:
        LostMachineError: the host was lost for reasons of its own.
    """
    module = record.host.get("vendor_module")
    if module is None:
        return record
    lost = {loss.variant for loss in record.losses}
    judged = [each for each in built.variants if each.id.name in built.subject.prefixes and each.id.name not in lost]
    groups = [(machine_for(built.kernels[group[0].id.name]), group) for group in _groups(judged, built)]
    tested = [found for machine, group in groups if (found := _run(machine, group, str(module), on_test))]
    tests = tuple(test for each in tested for test in each.tests)
    logs = tuple(log for each in tested for log in each.logs)
    dmesg = (*record.dmesg, *(line for log in logs for line in log.lines))
    return replace(record, tests=tests, logs=(*record.logs, *logs), dmesg=dmesg)


def _groups(variants: Sequence[Variant], built: Built) -> list[Sequence[Variant]]:
    """Variants that the same kernel can run."""
    if built.one_boot:
        return [variants] if variants else []
    return [[variant] for variant in variants]


def _run(machine: Machine, variants: Sequence[Variant], vendor_module: str, on_test: OnTest) -> Tested | None:
    modules = variants[0].modules
    chosen = settings(vendor_module, parameters.of_modules(modules))
    try:
        there = surroundings_of(machine, modules, chosen)[chosen[0]]  # which the tests are planned for, too
        return run_litmus(machine, variants, chosen, (*every(), *_random(there)), on_test)
    except StepFailedError:  # modules that do not load: the cells have said so
        return None


def _random(there: Surroundings) -> tuple[Program, ...]:
    vendor = find_vendor(there.offered)
    has = offers(vendor, there.offered)
    return tuple(
        one(f"random-{_SEED}-{number}", chosen, svm=by_asid(vendor))
        for number, chosen in enumerate((has, has - _ONLY_WITH_TDP))
    )
