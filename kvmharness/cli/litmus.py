"""litmus: tests of the rules that no patch to KVM may break, here or in an emulated host."""

import argparse
from dataclasses import dataclass

from kvmharness.cells.params import Params
from kvmharness.cli import options as shared
from kvmharness.cli.exporting import Export, add_export_options, export
from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import VERBOSE, Output
from kvmharness.cli.reports import Reports, add_report_options, document
from kvmharness.errors import ExitCode, UsageError
from kvmharness.lab.kernels.choice import KernelChoice
from kvmharness.litmus.named.all import select
from kvmharness.litmus.named.entry import RULES
from kvmharness.litmus.program import Program
from kvmharness.litmus.reading import read_program
from kvmharness.report.tests import failure_lines, overall
from kvmharness.results.record import Record
from kvmharness.results.tests import FAIL, SKIP, TestResult, tally
from kvmharness.system.files import write_whole
from kvmharness.validation.host import HERE
from kvmharness.validation.hostbase import Host
from kvmharness.validation.hunt import Random


def add(verbs: Verbs) -> None:  # type: ignore[valid-type]
    """Registers the verb."""
    made = verb(
        verbs,
        "litmus",
        read,
        act,
        "run litmus tests: short programs of rows for L1, L2 and the host, held against a model of the architecture",
        "Ends with 1 when a row gave what the architecture does not allow, with 4 when nothing could run.",
        examples=(
            "kvmharness litmus --list 'invept*'",
            "kvmharness litmus --host vmx invept-one",
            "kvmharness litmus --host svm --random 1 --for 10s",
        ),
    )
    made.add_argument(
        "tests",
        metavar="TEST",
        nargs="*",
        help="a test, a shell pattern of tests, or a file with a test's rows; default: all that --list shows",
    )
    shared.add_host_option(made, default=HERE, here=True)
    shared.add_fleet_options(made)
    made.add_argument("--list", action="store_true", help="list the tests, each with what is lost when it fails")
    made.add_argument(
        "--random",
        metavar="SEED",
        type=shared.number(1 << 62),
        help="random tests in the place of named ones; the same seed gives the same tests",
    )
    made.add_argument(
        "--for",
        dest="seconds",
        metavar="TIME",
        type=shared.seconds,
        help="for how long, such as 60s or 10m; without it each setting gets as many as it always does",
    )
    add_export_options(made)
    add_report_options(made)
    shared.add_parameter_option(made)
    shared.add_kernel_options(made)


@dataclass(frozen=True, slots=True)
class Request:
    """Tests to run somewhere.

    Attributes:
        host: where.
        programs, random: what.
        settings: of KVM's parameters, each in turn; None for those that matter there.
        kernel: under which kernel.
        command: how to make this run again.
        reports: the files to write about it.
    """

    host: Host
    programs: tuple[Program, ...]
    random: Random | None
    settings: tuple[Params, ...] | None
    kernel: KernelChoice
    command: tuple[str, ...]
    reports: Reports


@dataclass(frozen=True, slots=True)
class Listing:
    """Tests to list."""

    programs: tuple[Program, ...]


def read(options: argparse.Namespace) -> Request | Listing | Export:
    """What is asked for.

    Raises:
        UsageError: no such test, file or host, or options that contradict each other.
    """
    files = [text for text in options.tests if "/" in text or text.endswith(".litmus")]
    names = tuple(text for text in options.tests if text not in files)
    if options.seconds and options.random is None:
        raise UsageError("--for is about random tests", "Say --random SEED as well.")
    named = select(names) if names or not (files or options.random) else ()
    programs = (*named, *map(read_program, files))
    if options.list:
        return Listing(programs)
    (host,) = shared.hosts(options)
    if chosen := Export.of(options, programs, host, files):
        return chosen
    params, kernel = dict(options.param), shared.kernel_choice(options)
    host.check(kernel, params)
    settings = (tuple(sorted(params.items())),) if params else None
    random = None if options.random is None else Random(options.random, options.seconds)
    return Request(host, programs, random, settings, kernel, options.command, Reports.of(options, files))


def act(request: Request | Listing | Export, output: Output) -> int:
    """Lists the tests, exports one, or runs them and says what came of them."""
    if isinstance(request, Export):
        return export(request, output)
    if isinstance(request, Listing):
        for program in request.programs:
            output.result(f"{program.name}: {RULES.get(program.rule, 'own')}: otherwise {program.why}")
        return ExitCode.PASS
    request.host.recover(output.say)
    with output.task("Litmus tests") as task:
        done = 0

        def on_test(result: TestResult) -> None:
            nonlocal done
            done += 1
            task.step(f"{result.label}: {result.outcome}", done)

        def on_rows(what: str, rows: int) -> None:
            task.step(f"{rows} random rows; {what}")

        bed = request.host.testbed(request.kernel, request.settings, task)
        record, shrunk = bed.litmus(request.programs, request.random, request.command, on_test, on_rows)
    if request.reports.printed:
        output.document(document((record,)))
    else:
        _show(record, output)
    request.reports.write(output, (record,))
    for program in shrunk:
        name = f"{program.name}.litmus"
        write_whole(name, program.text.encode())
        output.say(f"{name}: the shortest rows that fail; run them again with `kvmharness litmus ./{name}`")
    return overall(record.tests).exit_code


def _show(record: Record, output: Output) -> None:
    """Failures with their tables, then how many there were of each kind; what was skipped only in detail."""
    for test in record.tests:
        if test.outcome == FAIL:
            first, *table = failure_lines(test, every=True)
            output.result("\n".join([output.paint(first, "red"), *table, ""]))
        elif test.outcome == SKIP or output.verbosity >= VERBOSE:
            say = output.detail if test.outcome == SKIP else output.result
            say(f"{test.outcome.upper()} {test.label}{f': {test.why}' if test.why else ''}")
    settings = len({tuple(sorted(test.params.items())) for test in record.tests})
    output.result(
        f"{tally(record.tests)}, under {settings} setting{'s' * (settings != 1)} of KVM's parameters; counts of KVM's "
        "own statistics are in the record"
    )
