"""bisect: what `git bisect run` asks of each commit, answered from one cell in an emulated host."""

import argparse
from pathlib import Path

from kvmharness.cells.cell import on_vendor
from kvmharness.cells.matrix import named
from kvmharness.cli import machine
from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import Output
from kvmharness.validation.bisect import Question, ask


def add(verbs: Verbs) -> None:  # type: ignore[valid-type]
    """Registers the verb."""
    made = verb(
        verbs,
        "bisect",
        run,
        "judge the checked-out commit of KVM by one figure, for `git bisect run`",
        "Exit code 0: the figure is BOUND or less; 1: it is more; 125: no verdict. Only the tree's KVM folders are "
        "built, as modules of the emulated host's kernel: some seconds a commit. Example: "
        "git bisect run kvmharness bisect a:3x3 loads 0",
    )
    made.add_argument("cell", metavar="CELL", help="a cell such as a:3x3; `kvmharness run --list` explains them")
    made.add_argument("metric", metavar="METRIC", help="loads, switches, exits.VMCALL, time, probe_failures, ...")
    made.add_argument("bound", metavar="BOUND", help="the largest good figure, per round trip; time in instructions")
    made.add_argument("--tree", metavar="FOLDER", type=Path, default=Path(), help="the kernel tree under bisection")
    made.add_argument("--host", metavar="HOST", default=machine.EMULATED, help=machine.HOST_HELP)
    machine.add_kernel_options(made)


def run(options: argparse.Namespace, output: Output) -> int:
    """Builds, runs, answers."""
    cell = on_vendor(named(options.cell), machine.vendor_module(options.host))
    question = Question.of(cell, options.metric, options.bound)
    machine.cpu_of(options.host)
    with output.task("Bisect") as task:
        kernel = machine.kernel_of(options, task)
        answer = ask(question, options.tree, kernel, machine.machine(options.host, kernel), progress=task.tick)
    output.result(f"{answer.code.name.lower()}: {answer.text}")
    return answer.code
