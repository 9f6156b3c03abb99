"""Suites that others wrote, on a machine: every variant, under every setting, test by test."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from kvmharness.cells.params import Params
from kvmharness.cells.surroundings import surroundings
from kvmharness.hosts.facts import normal
from kvmharness.lab.job import Machine
from kvmharness.lab.machines.snapshot.state import JOB_BYTES
from kvmharness.lab.machines.thiskernel import ThisKernel
from kvmharness.results.tests import SKIP, TestResult, program_of
from kvmharness.suites.test import SuiteTest
from kvmharness.validation.campaign import Variant
from kvmharness.validation.litmus import OnTest, Tested
from kvmharness.validation.sidebyside import side_by_side
from kvmharness.validation.suitejobs import Book, Key, Some, key_of, sorted_params

TestsFor = Callable[[Variant], Sequence[SuiteTest]]

_CHUNK = 10  # tests a job: small enough that two machines are done at about the same time
_FILES_BYTES = JOB_BYTES - (12 << 20)  # the modules want room, too


def run_suites(
    machine: Machine,
    variants: Sequence[Variant],
    settings: Sequence[Params],
    tests_for: TestsFor,
    on_test: OnTest = lambda result: None,
    *,
    known: Iterable[TestResult] = (),
    base: str = "",
) -> Tested:
    """Runs tests under every variant and setting, several jobs at the same time if the machine can do that.

    Args:
        machine: where.
        variants: KVM modules.
        settings: parameters to load them with; those that a test asks for itself win.
        tests_for: the tests for a variant.
        on_test: takes each result as it comes.
        known: results that there are already; their tests are not run again.
        base: the variant that the others are held against, the first one unless it is named: what takes the host down
            under that is not tried twice under them.

    Returns:
        A result for each line of each test, in the order of variants, settings and tests.

    Raises:
        LostMachineError: the machine died for reasons of its own, or says what cannot be.
        StepFailedError: a job cannot be done, for another reason than that modules do not load.
    """
    book = Book(on_test, _by_test(known), base or variants[0].id.name)
    order: list[Key] = []
    for variant in variants:
        jobs: list[Some] = []
        tests = tests_for(variant)
        for setting in settings:
            order += [key_of(variant.id.name, setting, test) for test in tests]
            jobs += _planned(book, machine, variant, setting, tests)
        side_by_side([job.until_done for job in jobs], machine.at_once)
    return _tested(book, order)


def run_suites_here(
    tests: Sequence[SuiteTest], on_test: OnTest = lambda result: None, *, known: Iterable[TestResult] = ()
) -> Tested:
    """Runs tests on this machine, under the kernel that is running, its modules as they are.

    Nothing that it does to the kernel can be undone: the caller sees to it that the tests are harmless.

    Raises:
        DeviceError: there is no /dev/kvm.
    """
    book = Book(on_test, _by_test(known), "host")
    facts = surroundings().facts
    left = []
    for test in tests:
        key = key_of("host", (), test)
        asked = sorted(dict(test.params).items())
        wrong = [f"{name}={value}" for name, value in asked if facts.parameter(name) != normal(value)]
        if key in book.results:
            continue
        if test.missing or wrong:
            book.note(key, SKIP, test.missing or f"it asks for {', '.join(wrong)}, and KVM is loaded otherwise")
        else:
            left.append(test)
    if left:
        Some(book, ThisKernel(), "host", None, (), (), left).until_done()
    return _tested(book, [key_of("host", (), test) for test in tests])


def _tested(book: Book, order: Iterable[Key]) -> Tested:
    return Tested(tuple(result for key in order for result in book.results.get(key, ())), tuple(book.logs))


def _by_test(known: Iterable[TestResult]) -> dict[Key, list[TestResult]]:
    """Results by their test. That of a whole test comes behind its lines: without it, it was not done."""
    found: dict[Key, list[TestResult]] = {}
    for result in known:
        key = Key(result.variant, sorted_params(result.params), result.battery, program_of(result))
        found.setdefault(key, []).append(result)
    return {key: results for key, results in found.items() if any(each.name == key.test for each in results)}


def _planned(
    book: Book, machine: Machine, variant: Variant, setting: Params, tests: Iterable[SuiteTest]
) -> Iterator[Some]:
    """Jobs for what has no result yet, under one variant and setting."""
    name = variant.id.name
    groups: dict[Params, list[SuiteTest]] = {}
    for test in tests:
        key = key_of(name, setting, test)
        if key in book.results:
            continue
        if test.missing:
            book.note(key, SKIP, test.missing)
        else:
            groups.setdefault(sorted_params(dict(setting) | dict(test.params)), []).append(test)
    for params, group in groups.items():
        for chunk in _chunks(group):
            yield Some(book, machine, name, variant.modules, setting, params, chunk)


def _chunks(tests: Iterable[SuiteTest]) -> Iterator[list[SuiteTest]]:
    """Tests that share a host; no more than a restored one takes."""
    chunk: list[SuiteTest] = []
    files: dict[str, Path] = {}
    for test in tests:
        if test.alone:
            yield [test]
            continue
        more = {**files, **test.files}
        if chunk and (len(chunk) >= _CHUNK or sum(path.stat().st_size for path in more.values()) > _FILES_BYTES):
            yield chunk
            chunk, more = [], dict(test.files)
        chunk.append(test)
        files = more
    if chunk:
        yield chunk
