"""bisect: what `git bisect run` asks of each commit, answered from one cell in an emulated host."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from kvmharness.cells.matrix import named
from kvmharness.cli import options as shared
from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import Output
from kvmharness.cli.reports import check_output
from kvmharness.lab.kernels.choice import KernelChoice
from kvmharness.results.store import save
from kvmharness.validation import trust
from kvmharness.validation.bisect import Answer, Question, ask, check
from kvmharness.validation.host import Emulated
from kvmharness.vendors.known import of_module


def add(verbs: Verbs) -> None:  # type: ignore[valid-type]
    """Registers the verb."""
    made = verb(
        verbs,
        "bisect",
        read,
        act,
        "judge the checked-out commit of KVM by one figure, for `git bisect run`",
        "Exit code 0: the figure is BOUND or less; 1: it is more; 125: no verdict. Only the tree's KVM folders are "
        "built, as modules of the emulated host's kernel: some seconds a commit.",
        examples=(
            "git bisect run kvmharness bisect a:3x3 loads 0",
            "kvmharness bisect a:3x3 loads 0 --tree ~/linux --json record.json",
        ),
    )
    made.set_defaults(bisect=True)
    made.add_argument("cell", metavar="CELL", help="a cell such as a:3x3; `kvmharness run --list` explains them")
    made.add_argument("metric", metavar="METRIC", help="loads, switches, exits.VMCALL, time, probe_failures, ...")
    made.add_argument("bound", metavar="BOUND", help="the largest good figure, per round trip; time in instructions")
    made.add_argument("--tree", metavar="FOLDER", type=Path, default=Path(), help="the kernel tree under bisection")
    made.add_argument(trust.UNSANDBOXED, dest="unsandboxed", action="store_true", help=trust.UNSANDBOXED_HELP)
    made.add_argument("--json", metavar="FILE", help="the record of what was measured")
    shared.add_host_option(made)
    shared.add_kernel_options(made)


@dataclass(frozen=True, slots=True)
class Request:
    """A commit to judge.

    Attributes:
        question: what is asked of it.
        tree: where it is checked out.
        host: where to run it.
        kernel: whose modules its KVM is built as.
        unsandboxed: its own commands may run outside of a sandbox.
        json: the file that the record goes to, None for none.
        command: that asked for it.
    """

    question: Question
    tree: Path
    host: Emulated
    kernel: KernelChoice
    unsandboxed: bool
    json: str | None
    command: tuple[str, ...]


def read(options: argparse.Namespace) -> Request:
    """What is asked for.

    Raises:
        UsageError: no such cell, metric, host or tree, no number, options that contradict each other, or the record
            could not be written.
    """
    host = shared.emulated_host(options)
    (cell,) = host.fitting((named(options.cell),))
    question = Question.of(cell, options.metric, options.bound)
    vendor = of_module(host.vendor_module)
    check(question, options.tree, vendor.counted if vendor else ())
    kernel = shared.kernel_choice(options)
    if options.json is not None:
        check_output("json", options.json, [path for path in (options.source, options.kernel) if path is not None])
    return Request(question, options.tree, host, kernel, options.unsandboxed, options.json, options.command)


def act(request: Request, output: Output) -> int:
    """Answers git, and says why."""
    answer = run(request, output)
    output.result(f"{answer.code.name.lower()}: {answer.text}")
    if answer.measured:
        output.result(f"measured: {answer.measured}")
    if request.json is not None and answer.record is not None:
        save(answer.record, request.json)
    return answer.code


def run(request: Request, output: Output) -> Answer:
    """Builds, runs, answers."""
    if said := trust.note():
        output.say(said)
    with output.task("Bisect") as task:
        kernel = request.kernel.get(task.tick)
        machine = request.host.machine(kernel)
        return ask(
            *(request.question, request.tree, kernel, machine),
            unsandboxed=request.unsandboxed,
            command=request.command,
            progress=task.tick,
        )
