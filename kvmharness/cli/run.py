"""run: the matrix of cells, on this machine or in an emulated host."""

import argparse
import sys

from kvmharness.cells.cell import Cell, select, with_params
from kvmharness.cells.experiment import Plan
from kvmharness.cli import machine, reports
from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import Output, Task
from kvmharness.errors import ExitCode, HostRequirementError, UsageError
from kvmharness.guest.layout import SAMPLES_MAX
from kvmharness.results.record import CellResult, Record, VariantId
from kvmharness.results.verdict import Outcome

LOCAL_TURNS = 4


def add(verbs: Verbs) -> None:  # type: ignore[valid-type]
    """Registers the verb."""
    made = verb(
        verbs,
        "run",
        handler,
        "run the matrix of CR3-thrashing guests and print counts, the oracle's prediction and times",
        "Ends with 1 when a guest saw a stale translation or root loads differ from the prediction, with 3 when "
        "something could not be judged, with 4 when nothing could run.",
    )
    made.add_argument(
        "workloads", metavar="WORKLOAD", nargs="*", help="a set-up (a, b, c, d) or a cell such as a:3x3; default: all"
    )
    made.add_argument("--host", metavar="HOST", default=machine.LOCAL, help=f"local, {machine.HOST_HELP}")
    made.add_argument("--list", action="store_true", help="list the cells and run none")
    made.add_argument(
        "--has",
        choices=("none", "p1", "p2", "both"),
        default="both",
        help="which fast-CR3-switch patches the kernel has, for the prediction; Linux 5.7 and later have both",
    )
    length = made.add_argument_group("length of the passes, in round trips; rounded up to whole rotations")
    for option, field, reader, what in (
        ("--warmup", "warmup", _positive, "before anything is measured"),
        ("--round-trips", "round_trips", _positive, "of the counting pass"),
        ("--batches", "batches", _batches, "samples of the timing pass"),
        ("--batch-round-trips", "batch_round_trips", _positive, "of one sample"),
    ):
        length.add_argument(option, dest=field, metavar="N", type=reader, default=argparse.SUPPRESS, help=what)
    made.add_argument(
        "--turns",
        metavar="N",
        type=_positive,
        help="how often the whole matrix is run; several turns are what `compare` needs to tell noise (default: 4 on "
        "this machine, 1 in an emulated host, where every turn is the same)",
    )
    reports.add_options(made)
    machine.add_parameter_option(made)
    machine.add_kernel_options(made)


def _positive(text: str, limit: int = 1_000_000) -> int:
    value = int(text) if text.isdecimal() else 0
    if not 0 < value <= limit:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {limit}")
    return value


def _batches(text: str) -> int:
    """Their samples must have room in the guest's memory."""
    return _positive(text, SAMPLES_MAX)


def handler(options: argparse.Namespace, output: Output) -> int:
    """Runs the cells and prints the table."""
    cells = select(tuple(options.workloads))
    if options.list:
        output.result("\n".join(cell.id for cell in cells))
        return ExitCode.PASS
    reports.check(options)
    if options.host == machine.LOCAL:
        machine.put_back_modules(output)
    with output.task("Run") as task:
        record = _run(cells, options, output, task)
    _show(record, options, output)
    return _exit_code(record)


def _run(cells: tuple[Cell, ...], options: argparse.Namespace, output: Output, task: Task) -> Record:
    """The record, from wherever the options say."""
    # Not at the top: `--list` and `--help` need no binding.
    from kvmharness.lab.job import StepFailedError
    from kvmharness.validation import campaign

    def on_result(result: CellResult, done: int, total: int) -> None:
        task.step(_line(result), done, total)

    command = ("kvmharness", *sys.argv[1:])
    if options.host == machine.LOCAL:
        if options.param or options.kernel or options.source:
            raise UsageError(
                "--param, --kernel and --source choose what an emulated host runs; this machine runs what it runs",
                "Add --host vmx, or load the modules as wanted first.",
            )
        try:
            return campaign.run_here(
                cells,
                _plan(options, Plan()),
                turns=options.turns or LOCAL_TURNS,
                oracle=_oracle(options.has),
                command=command,
                on_result=on_result,
            )
        except StepFailedError as error:
            if error.exit_code != ExitCode.SKIPPED:
                raise
            way_out = "or use an emulated host: kvmharness run --host vmx"
            hint = f"{error.hint}; {way_out}" if error.hint else way_out
            raise HostRequirementError(error.failed.message, hint) from error
    kernel, host = machine.chosen(options, task)
    task.step(f"booting {kernel.release} in {host.description}", 0, len(cells))
    ours = VariantId("host", kernel.source, config_hash=kernel.config_hash, oracle=_oracle(options.has))
    cells = tuple(with_params(cell, dict(options.param)) for cell in cells)
    return campaign.run_in(
        host,
        (campaign.Variant(ours, kernel.modules),),
        ("host",) * (options.turns or 1),
        cells,
        _plan(options, campaign.EMULATED_PLAN),
        command=command,
        on_result=on_result,
    )


def _plan(options: argparse.Namespace, default: Plan) -> Plan:
    from dataclasses import replace

    given = {
        name: getattr(options, name)
        for name in ("warmup", "round_trips", "batches", "batch_round_trips")
        if hasattr(options, name)
    }
    return replace(default, **given)


def _oracle(has: str) -> dict[str, bool]:
    return {"p1": has in ("p1", "both"), "p2": has in ("p2", "both")}


def _line(result: CellResult) -> str:
    what = "skipped" if result.skipped else f"error: {result.error.message}" if result.error else "done"
    return f"{result.id} {what}"


def _show(record: Record, options: argparse.Namespace, output: Output) -> None:
    from kvmharness.report.text import print_run

    if options.json == reports.STANDARD_OUTPUT:
        output.result(reports.document(record))
    else:
        print_run(record)
    reports.write(options, output, record)


def _exit_code(record: Record) -> int:
    """The worst of the rows: a stale translation, a wrong prediction or a failed cell; what could not be judged; ..."""
    from kvmharness.report.rows import rows

    return Outcome.overall([row.outcome for row in rows(record)]).exit_code
