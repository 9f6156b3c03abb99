"""suite: test suites that others wrote, here or in an emulated host: the kernel's own selftests, and kvm-unit-tests."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kvmharness.cells.params import Params
from kvmharness.cli import options as shared
from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import Output, Task
from kvmharness.cli.printing import print_tests
from kvmharness.cli.reports import Reports, add_report_options, document
from kvmharness.errors import ExitCode, UsageError
from kvmharness.hosts import catalogue
from kvmharness.lab.kernels.choice import KernelChoice
from kvmharness.report.tests import overall
from kvmharness.results.record import Record
from kvmharness.results.tests import SELFTESTS, UNIT_TESTS, TestResult
from kvmharness.validation.host import HERE
from kvmharness.validation.hostbase import Host

if TYPE_CHECKING:
    from kvmharness.suites.test import SuiteTest


def add(verbs: Verbs) -> None:  # type: ignore[valid-type]
    """Registers the verb."""
    made = verb(
        verbs,
        "suite",
        read,
        act,
        "run a test suite that others wrote: the kernel's own KVM selftests, or kvm-unit-tests",
        "Ends with 1 when a test failed; whether it also fails without a series, `validate --thorough` tells.",
        examples=(
            "kvmharness suite selftests --list --host vmx",
            "kvmharness suite selftests 'x86_64/vmx_*' --host vmx",
        ),
    )
    made.add_argument("suite", metavar="SUITE", choices=(SELFTESTS, UNIT_TESTS), help=f"{SELFTESTS} or {UNIT_TESTS}")
    made.add_argument("tests", metavar="TEST", nargs="*", help="a test, or a shell pattern of tests; default: all")
    made.add_argument(
        "--tree",
        "--unit-tests",
        dest="tree",
        metavar="PATH",
        type=Path,
        help=f"of {UNIT_TESTS}: a built tree of kvm-unit-tests, or a folder of .flat files",
    )
    made.add_argument("--list", action="store_true", help="list the tests; one that cannot run with the reason")
    shared.add_host_option(made, default=catalogue.first().spec, here=True)
    shared.add_fleet_options(made)
    add_report_options(made)
    shared.add_parameter_option(made)
    shared.add_kernel_options(made)


@dataclass(frozen=True, slots=True)
class Request:
    """A suite to run somewhere.

    Attributes:
        host: where.
        suite: which.
        patterns: of its tests; all when empty.
        tree: of kvm-unit-tests.
        listing: they are to be listed.
        params: of KVM's modules.
        kernel: under which kernel.
        command: how to make this run again.
        reports: the files to write about it.
    """

    host: Host
    suite: str
    patterns: tuple[str, ...]
    tree: Path | None
    listing: bool
    params: Params
    kernel: KernelChoice
    command: tuple[str, ...]
    reports: Reports


def read(options: argparse.Namespace) -> Request:
    """What is asked for.

    Raises:
        UsageError: no such host or tree, or options that contradict each other.
    """
    if (options.suite == UNIT_TESTS) != (options.tree is not None):
        raise UsageError(
            f"--tree is about {UNIT_TESTS}, which need it" if options.tree is None else f"{SELFTESTS} take no --tree",
            f"kvmharness suite {UNIT_TESTS} --tree PATH; {SELFTESTS} come from the kernel's own tree.",
        )
    (host,) = shared.hosts(options)
    kernel, params = shared.kernel_choice(options), dict(options.param)
    # On this machine --source says where the selftests are: the kernel is the one that runs.
    host.check(KernelChoice() if host.spec == HERE and options.suite == SELFTESTS else kernel, params)
    return Request(
        host,
        options.suite,
        tuple(options.tests),
        options.tree,
        options.list,
        tuple(sorted(params.items())),
        kernel,
        options.command,
        Reports.of(options, (options.tree,)),
    )


def act(request: Request, output: Output) -> int:
    """Lists the tests, or runs them and says what came of them."""
    from kvmharness.suites.test import chosen

    request.host.recover(output.say)
    with output.task(f"Suite {request.suite}") as task:
        tests = chosen(_tests(request, task), request.patterns)
        record = None if request.listing else _run(request, tests, task)
    if record is None:
        for test in tests:
            output.result(f"{test.name}: cannot run: {test.missing}" if test.missing else test.name)
        return ExitCode.PASS
    if request.reports.printed:
        output.document(document((record,)))
    else:
        print_tests(record, output)
    request.reports.write(output, (record,))
    return overall(record.tests).exit_code


def _tests(request: Request, task: Task) -> "Sequence[SuiteTest]":
    """All of the suite.

    Raises:
        UsageError: the tree is none, or there is none.
        KernelBuildError: nothing of it builds.
    """
    if request.tree is not None:
        from kvmharness.suites.unittests.tree import read_tree

        return read_tree(request.tree, request.patterns, task.step)
    from kvmharness.lab.kernels.selftests import build
    from kvmharness.suites.selftests import selftests

    task.step("building the kernel's selftests")
    here = request.host.spec == HERE
    tree = request.kernel.source if here else request.kernel.get(task.tick).tree
    if tree is None:
        hint = "Name the running kernel's with --source." if here else "Choose the kernel by --source, not by --kernel."
        raise UsageError("there is no source tree to build the selftests from", hint)
    return selftests(build(tree, progress=task.tick))


def _run(request: Request, tests: "Sequence[SuiteTest]", task: Task) -> Record:
    done = 0

    def on_test(result: TestResult) -> None:
        nonlocal done
        done += 1
        task.step(f"{result.label}: {result.outcome}", done)

    bed = request.host.testbed(request.kernel, (request.params,), task)
    return bed.suite(tests, request.command, on_test)
