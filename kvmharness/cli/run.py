"""run: the matrix of cells, on this machine or in an emulated host."""

import argparse
from dataclasses import dataclass, replace

from kvmharness.cells.cell import Cell, with_params
from kvmharness.cells.language import explain
from kvmharness.cells.matrix import select
from kvmharness.cli import options as shared
from kvmharness.cli.detecting import add_detect_options, detect_of
from kvmharness.cli.keeping import add_resume_option, earlier, kept
from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import Output
from kvmharness.cli.reports import Reports, add_report_options, document
from kvmharness.cli.serieschoice import add_series_options, variant_of
from kvmharness.errors import ExitCode, UsageError
from kvmharness.guest.layout import SAMPLES_MAX
from kvmharness.oracle import oracles
from kvmharness.results.power import Detect, reached
from kvmharness.results.record import CellResult, Record
from kvmharness.results.verdict import Outcome
from kvmharness.validation.detecting import PILOT
from kvmharness.validation.host import HERE, Emulated, ThisMachine
from kvmharness.validation.hostbase import Host, RunRequest

_ORACLE = oracles.named(oracles.DEFAULT)
_MANY = 1_000_000
_LENGTHS = (
    ("--warmup", "warmup", _MANY, "before anything is measured"),
    ("--round-trips", "round_trips", _MANY, "of the counting pass"),
    ("--batches", "batches", SAMPLES_MAX, "samples of the timing pass"),  # they must have room in the guest's memory
    ("--batch-round-trips", "batch_round_trips", _MANY, "of one sample"),
)


def add(verbs: Verbs) -> None:  # type: ignore[valid-type]
    """Registers the verb."""
    made = verb(
        verbs,
        "run",
        read,
        act,
        "run the matrix of CR3-thrashing guests and print counts, the oracle's prediction and times",
        "Ends with 1 when a guest saw a stale translation or root loads differ from the prediction, with 3 when "
        "something could not be judged, with 4 when nothing could run.",
        examples=(
            "kvmharness run --list a",
            "kvmharness run --host vmx a:3x3 c:3/AABB --json after.json",
            "kvmharness run --host svm a:3x3 --series fast-cr3-switch --variant p1",
        ),
    )
    made.add_argument(
        "cells",
        metavar="CELL",
        nargs="*",
        help="a cell such as a:3x3, a set-up such as a, or a shell pattern; default: all that --list shows",
    )
    shared.add_host_option(made, default=HERE, here=True)
    made.add_argument("--list", action="store_true", help="list the default cells, and how any other is written")
    made.add_argument(
        "--has",
        metavar="FEATURE,...",
        type=_features,
        help=f"what the kernel has of what the prediction depends on: none, all, or some of {', '.join(_ORACLE.words)} "
        f"(default: what its source shows; where that is not at hand all, {_ORACLE.usual})",
    )
    length = made.add_argument_group("length of the passes, in round trips; rounded up to whole rotations")
    for option, field, limit, what in _LENGTHS:
        length.add_argument(
            option, dest=field, metavar="N", type=shared.number(limit), default=argparse.SUPPRESS, help=what
        )
    made.add_argument(
        "--turns",
        metavar="N",
        type=shared.number(_MANY),
        help="how often the whole matrix is run; several turns are what `compare` needs to tell noise (default: "
        f"{ThisMachine.turns} on this machine, {Emulated.turns} in an emulated host, where every turn is the same)",
    )
    made.add_argument(
        "--trace",
        action="store_true",
        help="instead of figures: which of KVM's functions and tracepoints one round trip of one cell meets, and with "
        "--series in what that differs without the series; takes a kernel of its own, built once in some minutes",
    )
    add_detect_options(shared.add_silicon_options(made))
    add_report_options(made)
    shared.add_fleet_options(made)
    add_resume_option(made)
    shared.add_parameter_option(made)
    shared.add_kernel_options(made)
    add_series_options(made)


def _features(text: str) -> tuple[str, ...]:
    """Features of a kernel in the oracle's words."""
    words = {"none": (), "all": _ORACLE.words}.get(text, tuple(text.split(",")))
    if unknown := [word for word in words if word not in _ORACLE.words]:
        known = ", ".join(("none", "all", *_ORACLE.words))
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no feature that the prediction depends on: {known}")
    return words


@dataclass(frozen=True, slots=True)
class Request:
    """Cells to run somewhere.

    Attributes:
        host: where.
        wanted: what.
        reports: the files to write about it.
        before: what was kept of the run when it was cut short.
        trace: one cell is to be traced, and nothing measured.
    """

    host: Host
    wanted: RunRequest
    reports: Reports
    before: tuple[Record, ...] = ()
    trace: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """Cells to list.

    Attributes:
        cells: which ones.
    """

    cells: tuple[Cell, ...]


def read(options: argparse.Namespace) -> Request | Listing:
    """What is asked for.

    Raises:
        UsageError: no such cell or host, or options that contradict each other.
    """
    cells = select(tuple(options.cells))
    if options.list:
        return Listing(cells)
    (host,), params, kernel = shared.hosts(options), dict(options.param), shared.kernel_choice(options)
    of = variant_of(options, kernel)
    host.check(kernel, params, of)
    detect = detect_of(options, host)
    given = {field: getattr(options, field) for _, field, _, _ in _LENGTHS if hasattr(options, field)}
    wanted = RunRequest(
        cells=tuple(with_params(cell, params) for cell in host.fitting(cells)),
        plan=replace(host.plan, **given),
        turns=options.turns or (PILOT if detect else host.turns),
        detect=detect,
        kernel=kernel,
        has=options.has,
        command=options.command,
        of=of,
    )
    if options.trace and len(wanted.cells) != 1:
        raise UsageError(f"--trace shows one cell, not {len(wanted.cells)}", "Name it: kvmharness run a:3x3 --trace")
    return Request(host, wanted, Reports.of(options), earlier(options), options.trace)


def act(request: Request | Listing, output: Output) -> int:
    """Lists the cells, or runs them and prints the table."""
    if isinstance(request, Listing):
        output.result("\n".join(cell.id for cell in request.cells))
        output.say(f"These are the default ones. {explain()}")
        return ExitCode.PASS
    if request.trace:
        return _trace(request, output)
    record = run(request, output)
    _show(record, request.reports, output)
    return _exit_code(record, request.wanted.detect)


def run(request: Request, output: Output) -> Record:
    """Runs the cells.

    Raises:
        HostRequirementError, LostMachineError, UsageError: as :meth:`kvmharness.validation.hostbase.Host.run`.
    """
    request.host.recover(output.say)
    with kept(request.reports, request.before, output) as keeping, output.task("Run") as task:

        def on_result(result: CellResult, done: int, total: int) -> None:
            task.step(_line(result), done, total)

        return request.host.run(replace(request.wanted, keeping=keeping), on_result, task)


def _trace(request: Request, output: Output) -> int:
    from kvmharness.cli import tracing

    with output.task("Trace") as task:
        traced = request.host.trace(request.wanted, task)
    return tracing.show(request.wanted.cells[0].id, traced, output)


def _line(result: CellResult) -> str:
    what = "skipped" if result.skipped else f"error: {result.error.message}" if result.error else "done"
    return f"{result.id} {what}"


def _show(record: Record, reports: Reports, output: Output) -> None:
    from kvmharness.report.text import print_run

    if reports.printed:
        output.document(document((record,)))
    else:
        print_run(record)
    reports.write(output, (record,))


def _exit_code(record: Record, detect: Detect | None) -> int:
    """The worst of the rows: a stale translation, a wrong prediction or a failed cell; what could not be judged; ...

    Turns that do not suffice to see what was to be seen are inconclusive, whatever the rows are.
    """
    from kvmharness.report.rows import rows

    outcomes = [row.outcome for row in rows(record)]
    if detect is not None and not reached(record, detect.effect):
        outcomes.append(Outcome.INCONCLUSIVE)
    return Outcome.overall(outcomes).exit_code
