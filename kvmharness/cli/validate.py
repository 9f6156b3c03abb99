"""validate: a patch series as variants, run interleaved on one host, its claims answered."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kvmharness.cells.cell import Cell, with_params
from kvmharness.cells.matrix import select, validation_matrix
from kvmharness.cli import options as shared
from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import VERBOSE, Output, Task
from kvmharness.cli.reports import Reports, add_report_options, document
from kvmharness.errors import UsageError
from kvmharness.lab.kernels.build import Kernel
from kvmharness.lab.kernels.source import Source
from kvmharness.patches import series as series_files
from kvmharness.patches.series import Series
from kvmharness.results.record import CellResult
from kvmharness.validation.host import HERE, Host, resolve

if TYPE_CHECKING:
    from kvmharness.validation.validate import Validation


def add(verbs: Verbs) -> None:  # type: ignore[valid-type]
    """Registers the verb."""
    made = verb(
        verbs,
        "validate",
        read,
        act,
        "build a patch series step by step, run it interleaved, and answer what it claims",
        f"Series that come with the tool: {', '.join(series_files.shipped())}.",
    )
    made.add_argument(
        "series", metavar="SERIES", help="a shipped series, an mbox, a folder of patches, or git revisions A..B"
    )
    made.add_argument("cells", metavar="CELL", nargs="*", help="cells instead of the usual ones, as for `run`")
    shared.add_host_option(made, here=True)
    made.add_argument(
        "--reload-modules",
        action="store_true",
        help=f"with --host {HERE}: allow this machine's KVM modules to be replaced by the variants, and put back "
        "after; refused while a VM runs",
    )
    made.add_argument(
        "--source",
        metavar="PATH",
        type=Path,
        help=f"the kernel: a source tree or a tarball; with --host {HERE}, the tree that the running one was built in",
    )
    made.add_argument("--repository", metavar="FOLDER", type=Path, help="the git repository of A..B")
    made.add_argument("--claims", metavar="FILE", help="a TOML file, or a shipped series, whose claims count as well")
    made.add_argument("--claims-only", action="store_true", help="those of --claims count instead of the series' own")
    made.add_argument("--variants", metavar="NAME", nargs="+", default=[], help="only these variants")
    made.add_argument(
        "--turns", metavar="N", type=shared.number(100), default=2, help="how often each variant is loaded: A B B A"
    )
    made.add_argument("--bisect", action="store_true", help="exit codes for git bisect run: 0, 1, or 125")
    shared.add_parameter_option(made)
    add_report_options(made)


@dataclass(frozen=True, slots=True)
class Request:
    """A series to validate.

    Attributes:
        series: what to validate.
        host: where.
        base: what its variants are made from.
        cells: to run under each variant.
        variants: names of those to make; all when empty.
        turns: how often each variant is loaded.
        reports: the files to write about it.
        command: how to make this run again.
    """

    series: Series
    host: Host
    base: Source | Kernel
    cells: tuple[Cell, ...]
    variants: tuple[str, ...]
    turns: int
    reports: Reports
    command: tuple[str, ...]


def read(options: argparse.Namespace) -> Request:
    """What is asked for.

    Raises:
        UsageError: no such series, cell or host, or options that contradict each other or do not fit the host.
    """
    if options.claims_only and options.claims is None:
        raise UsageError("--claims-only without --claims", "Name the file with the claims: --claims FILE.")
    host = resolve(options.host)
    chosen = select(tuple(options.cells)) if options.cells else validation_matrix(host.vendor_module)
    return Request(
        series=series_files.load(
            options.series,
            repository=options.repository,
            claims=options.claims,
            claims_only=options.claims_only,
        ),
        host=host,
        base=host.base(options.source, may_reload=options.reload_modules),
        cells=tuple(with_params(cell, dict(options.param)) for cell in host.fitting(chosen, reloading=True)),
        variants=tuple(options.variants),
        turns=options.turns,
        reports=Reports.of(options),
        command=("kvmharness", *sys.argv[1:]),
    )


def act(request: Request, output: Output) -> int:
    """Validates, prints the verdict, writes the reports."""
    request.host.recover(output.say)
    with output.task("Validate") as task:
        found = run(request, task)
    _show(found, request.reports, output)
    return found.verdict.outcome.exit_code


def run(request: Request, task: Task) -> "Validation":
    """Builds the variants, runs them, answers the claims.

    Raises:
        UsageError: the series gives no variant, or as :func:`kvmharness.validation.prepare.prepare`.
        HostRequirementError, LostMachineError: the host cannot run it, or was lost.
    """
    from kvmharness.validation.prepare import prepare
    from kvmharness.validation.validate import validate

    machine_for = request.host.machine_for()
    name = request.series.name
    task.step(f"building the variants of {name}")
    built = prepare(request.series, request.base, request.variants, progress=task.tick)
    for variant, why in built.plan.left_out.items():
        task.step(f"variant {variant} left out: {why}")
    if not built.variants:
        raise UsageError(f"{name} gives no variant for this kernel")
    task.step(f"running variants {', '.join(variant.id.name for variant in built.variants)}")

    def on_result(result: CellResult, done: int, total: int) -> None:
        task.step(f"{result.variant}, {result.id}", done, total)

    return validate(
        built,
        machine_for,
        request.cells,
        turns=request.turns,
        plan=request.host.plan,
        command=request.command,
        on_result=on_result,
    )


def _show(found: "Validation", reports: Reports, output: Output) -> None:
    from kvmharness.report.commit import commit_lines
    from kvmharness.report.text import print_run, remark_lines, verdict_lines

    if reports.printed:
        output.result(document(found.record, found.verdict))
    else:
        if found.record is not None and output.verbosity >= VERBOSE:
            print_run(found.record)
            output.result("")
        output.result("\n".join([*verdict_lines(found.verdict), ""]))
        if found.record is not None:
            output.result("\n".join(commit_lines([found.record], found.verdict)))
        else:
            output.result("\n".join(remark_lines(found.verdict)))
    reports.write(output, found.record, found.verdict)
