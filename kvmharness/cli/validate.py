"""validate: a patch series as variants, run interleaved on one host, its claims answered."""

import argparse
import sys
from pathlib import Path

from kvmharness.cells.cell import Cell, on_vendor, with_params
from kvmharness.cells.matrix import select, validation_matrix
from kvmharness.cli import machine, reports
from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import VERBOSE, Output, Task
from kvmharness.errors import UsageError
from kvmharness.lab.kernels.build import Kernel
from kvmharness.lab.kernels.source import Source
from kvmharness.patches import series as series_files
from kvmharness.results.record import CellResult
from kvmharness.validation.validate import MachineFor, Validation, prepare, validate


def add(verbs: Verbs) -> None:  # type: ignore[valid-type]
    """Registers the verb."""
    made = verb(
        verbs,
        "validate",
        run,
        "build a patch series step by step, run it interleaved, and answer what it claims",
        f"Series that come with the tool: {', '.join(series_files.shipped())}.",
    )
    made.add_argument(
        "series", metavar="SERIES", help="a shipped series, an mbox, a folder of patches, or git revisions A..B"
    )
    made.add_argument("cells", metavar="CELL", nargs="*", help="cells instead of the usual ones, as for `run`")
    made.add_argument("--host", metavar="HOST", default=machine.EMULATED, help=f"local, {machine.HOST_HELP}")
    made.add_argument(
        "--reload-modules",
        action="store_true",
        help="with --host local: allow this machine's KVM modules to be replaced by the variants, and put back after; "
        "refused while a VM runs",
    )
    made.add_argument(
        "--source",
        metavar="PATH",
        type=Path,
        help="the kernel: a source tree or a tarball; with --host local, the tree that the running one was built in",
    )
    made.add_argument("--repository", metavar="FOLDER", type=Path, help="the git repository of A..B")
    made.add_argument("--claims", metavar="FILE", help="a TOML file, or a shipped series, whose claims count instead")
    made.add_argument("--variants", metavar="NAME", nargs="+", default=[], help="only these variants")
    made.add_argument("--turns", metavar="N", type=_turns, default=2, help="how often each variant is loaded: A B B A")
    made.add_argument("--bisect", action="store_true", help="exit codes for git bisect run: 0, 1, or 125")
    machine.add_parameter_option(made)
    reports.add_options(made)


def _turns(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if not 0 < value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 100")
    return value


def run(options: argparse.Namespace, output: Output) -> int:
    """Validates, prints the verdict, writes the reports."""
    reports.check(options)
    if options.host == machine.LOCAL:
        machine.put_back_modules(output)
        _check_local(options)
    else:
        machine.cpu_of(options.host)
    vendor_module = machine.vendor_module(options.host)
    chosen = select(tuple(options.cells)) if options.cells else validation_matrix(vendor_module)
    cells = tuple(with_params(on_vendor(cell, vendor_module), dict(options.param)) for cell in chosen)
    with output.task("Validate") as task:
        found = _validate(options, cells, task)
    _show(found, options, output)
    return found.verdict.outcome.exit_code


def _check_local(options: argparse.Namespace) -> None:
    """What it takes to change this machine's modules, before anything is built.

    Raises:
        UsageError: it was not allowed, the kernel's tree is not named, or it is not the running kernel's.
    """
    from kvmharness.lab.kernels.running import running_kernel

    if not options.reload_modules:
        raise UsageError(
            "on this machine validate replaces KVM's modules by each variant in turn",
            "Allow it with --reload-modules (they are put back), or leave --host away for an emulated host.",
        )
    if options.source is None:
        raise UsageError("--host local needs --source", "Name the tree that the running kernel was built in.")
    running_kernel(options.source)


def _validate(options: argparse.Namespace, cells: tuple[Cell, ...], task: Task) -> Validation:
    from kvmharness.cells.experiment import Plan
    from kvmharness.validation.campaign import EMULATED_PLAN

    series = series_files.load(options.series, repository=options.repository, claims=options.claims)
    local = options.host == machine.LOCAL
    machine_for = _this_host() if local else lambda kernel: machine.machine(options.host, kernel)
    task.step(f"building the variants of {series.name}")
    built = prepare(series, _source(options), tuple(options.variants), progress=task.tick)
    for name, why in built.plan.left_out.items():
        task.step(f"variant {name} left out: {why}")
    if not built.variants:
        raise UsageError(f"{series.name} gives no variant for this kernel")
    names = ", ".join(variant.id.name for variant in built.variants)
    task.step(f"running variants {names}")

    def on_result(result: CellResult, done: int, total: int) -> None:
        task.step(f"{result.variant}, {result.id}", done, total)

    return validate(
        built,
        machine_for,
        cells,
        turns=options.turns,
        plan=Plan() if local else EMULATED_PLAN,
        command=("kvmharness", *sys.argv[1:]),
        on_result=on_result,
    )


def _this_host() -> MachineFor:
    """This machine, whichever kernel is asked for: :func:`running_kernel` has seen to it that it is the right one."""
    from kvmharness.lab.machines.thishost import ThisHost

    host = ThisHost()
    return lambda kernel: host


def _source(options: argparse.Namespace) -> Source | Kernel:
    from kvmharness.lab.kernels import source
    from kvmharness.lab.kernels.running import running_kernel

    if options.host == machine.LOCAL:
        return running_kernel(options.source)
    return source.debian() if options.source is None else source.at(options.source)


def _show(found: Validation, options: argparse.Namespace, output: Output) -> None:
    from kvmharness.report.commit import commit_lines
    from kvmharness.report.text import print_run, verdict_lines

    if options.json == reports.STANDARD_OUTPUT:
        output.result(reports.document(found.record, found.verdict))
    else:
        if found.record is not None and output.verbosity >= VERBOSE:
            print_run(found.record)
            output.result("")
        output.result("\n".join([*verdict_lines(found.verdict), ""]))
        if found.record is not None:
            output.result("\n".join(commit_lines([found.record], found.verdict)))
    reports.write(options, output, found.record, found.verdict)
