"""Random litmus tests find faults of KVM that nobody has told them about, and say so in a few rows."""

from itertools import islice

import pytest

from kvmharness.kvm.nested import find_vendor
from kvmharness.lab.kernels import build
from kvmharness.lab.kernels.source import debian
from kvmharness.litmus.hunt.generate import programs
from kvmharness.litmus.needs import offers
from kvmharness.litmus.table import lines
from kvmharness.results.record import VariantId
from kvmharness.validation.campaign import Variant
from kvmharness.validation.hunt import shortest
from kvmharness.validation.litmus import run_litmus
from kvmharness.validation.probing import surroundings_of
from kvmharness.validation.snapshots import emulated_host
from kvmharness.vendors.known import by_asid
from tests.validation.litmusfaults import every

SEED, BATCH, BATCHES, ROWS_MOST = 1, 20, 6, 8

# Of different rules, in functions far from each other.
FAULTS = (
    "move-to-cr3-does-not-sync",
    "invlpg-finds-nothing-unsync",
    "huge-entry-not-zapped",
    "pcid-of-previous-roots-kept",
    "no-vpid-no-flush",
    "invept-of-all-is-of-one",
    "new-root-not-synced",
    "clean-page-writable",
    "mapped-writable-not-logged",
    "wp-not-in-the-role",
    "fetch-not-in-the-error-code",
    "nested-pages-all-executable",
    "mmio-of-the-last-root",
    "read-only-slot-mapped-writable",
    "tdp-roots-survive",
)


@pytest.mark.needs("emulated_vmx")
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_told_in_a_few_rows(name):
    (fault,) = [each for each in every() if each.name == name]
    kernel = build.kernel(debian())
    machine = emulated_host(fault.host, kernel)
    faulty = Variant(VariantId(name, fault.why), build.variant(kernel.tree, fault.overlay(kernel.tree), name=name))
    there = surroundings_of(machine, kernel.modules, [fault.params])[fault.params]
    vendor = find_vendor(there.offered)
    svm = by_asid(vendor)
    made = programs(SEED, offers(vendor, there.offered), svm=svm)

    def run(some):
        return run_litmus(machine, (faulty,), (fault.params,), some, together=False)

    for _ in range(BATCHES):
        batch = list(islice(made, BATCH))
        outcomes = run(batch).outcomes
        failing = [program for program in batch if not outcomes[program.name].passed]
        if failing:
            break
    else:
        pytest.fail(f"{BATCH * BATCHES} programs found nothing")
    short, outcome = shortest(failing[0], outcomes[failing[0].name], run, lambda what, rows: None, 0, svm=svm)
    assert not outcome.passed
    assert len(short.rows) <= ROWS_MOST, "\n".join(lines(outcome))
