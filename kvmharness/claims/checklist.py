"""What KVM's maintainers ask for before they take a series, and what became of each of these things.

Source: Documentation/process/maintainer-kvm-x86.rst, "Testing".
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kvmharness.results.record import Record
from kvmharness.results.tests import BUILDS, DEBUG_KERNEL, LITMUS, SELFTESTS, UNIT_TESTS, tally
from kvmharness.results.verdict import Asked, ClaimResult, Outcome, listed
from kvmharness.vendors.names import NAMES

CELLS = "cells"
"""Stands for the measured cells among the batteries."""

Records = Mapping[str, Record]


class _Thing(NamedTuple):
    """Something that is asked for: in a few words, the battery that does it, and the claims that answer it."""

    what: str
    battery: str
    claims: tuple[str, ...]


_THINGS = (
    _Thing("Every patch builds, in order", "", ("every-prefix-builds",)),
    _Thing("No new warnings; other configurations build", BUILDS, ("builds-cleanly",)),
    _Thing("KVM selftests, with and without", SELFTESTS, ("selftests-hold",)),
    _Thing("kvm-unit-tests, with and without", UNIT_TESTS, ("unit-tests-hold",)),
    _Thing("PROVE_LOCKING, KASAN and their like", DEBUG_KERNEL, ("debug-kernel-is-quiet",)),
    _Thing("KVM's modules load and unload", "", ("modules-load-and-unload", "no-leak")),
    _Thing("VMs run: litmus tests", LITMUS, ("litmus-tests-hold", "litmus-no-more-work")),
)
_CELLS = "VMs run: measured cells"


def checklist(
    answers: Iterable[ClaimResult], records: Records, took: Mapping[str, float], not_done: Mapping[str, str]
) -> tuple[Asked, ...]:
    """The list.

    Args:
        answers: of the verdict.
        records: by the host's name.
        took: seconds by battery, of those that were run.
        not_done: why a battery was not run, by its name.
    """
    by_name = {answer.name: answer for answer in answers}
    # All other claims, of the net and of the series itself, are about the cells.
    others = by_name.keys() - {name for thing in _THINGS for name in thing.claims}
    things = (*_THINGS, _Thing(_CELLS, CELLS, tuple(name for name in by_name if name in others)))
    rows = [_row(thing, by_name, records, took, not_done) for thing in things]
    return (*rows, _settings(records), _vendors(records), _silicon(records), _BITS)


def _row(
    thing: _Thing,
    answers: Mapping[str, ClaimResult],
    records: Records,
    took: Mapping[str, float],
    not_done: Mapping[str, str],
) -> Asked:
    found = [answers[name] for name in thing.claims if name in answers]
    outcome = Outcome.overall([answer.outcome for answer in found])
    if outcome is Outcome.SKIPPED:
        return Asked(thing.what, because=not_done.get(thing.battery) or _why(found))
    done = _done(thing, found, records)
    seconds = took.get(thing.battery)
    return Asked(thing.what, f"{done}, {seconds:.0f} s" if seconds is not None else done, outcome.value)


def _why(found: Iterable[ClaimResult]) -> str:
    return next((line for answer in found for line in answer.figures), "nothing ran that answers it")


def _done(thing: _Thing, found: Iterable[ClaimResult], records: Records) -> str:
    if thing.battery == CELLS:
        return listed([f"{host}: {len(record.results)} results" for host, record in records.items()])
    if thing.battery in (SELFTESTS, UNIT_TESTS, LITMUS):
        return "; ".join(f"{host}: {_last(record, thing.battery)}" for host, record in records.items())
    if thing.battery == BUILDS:
        return listed(_names(records, thing.battery), 12)
    return next((answer.figures[0] for answer in found if answer.figures), "done")


def _last(record: Record, battery: str) -> str:
    """What the whole series gives under KVM's parameters as they are."""
    tests = [test for test in record.tests if test.battery == battery]
    last = [test for test in tests if test.variant == tests[-1].variant]
    return tally([test for test in last if not test.params] or last) if tests else "none"


def _names(records: Records, battery: str) -> list[str]:
    tests = [test for record in records.values() for test in record.tests if test.battery == battery]
    return list(dict.fromkeys(test.name for test in tests))


def _settings(records: Records) -> Asked:
    what = "TDP off, and other parameters that matter"
    sets = [each.params for record in records.values() for each in record.results]
    sets += [each.params for record in records.values() for each in record.tests]
    varied = {",".join(f"{name}={value}" for name, value in sorted(params.items())): None for params in sets if params}
    return Asked(what, listed(list(varied), 12), "done") if varied else Asked(what, because="none was varied")


def _vendors(records: Records) -> Asked:
    what = "Both vendors"
    ran = {str(record.host.get("vendor_module")) for record in records.values()}
    lacking = [f"not with {vendor.title} ({vendor.module})" for vendor in NAMES if vendor.module not in ran]
    return Asked(what, listed(list(records)), "partly" if lacking else "done", listed(lacking))


def _silicon(records: Records) -> Asked:
    what = "On hardware"
    emulated = [host for host, record in records.items() if record.host.get("emulator")]
    if len(emulated) < len(records):
        return Asked(what, listed([host for host in records if host not in emulated]), "done")
    return Asked(what, because="emulated hosts only")


_BITS = Asked("A 32-bit kernel", because="hosts have 64-bit kernels")
