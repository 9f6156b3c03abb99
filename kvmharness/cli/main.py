"""The parser and the way from a command line to an exit code."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from kvmharness import __version__
from kvmharness.cli import asm, bisect, cache, compare, doctor, help, lab, litmus, report, run, suite, validate, worker
from kvmharness.cli.errors import answer, check_results_have_a_place, for_bisect, hold_streams, settle_streams
from kvmharness.cli.options import Parser
from kvmharness.cli.output import Output
from kvmharness.cli.reports import to_reproduce
from kvmharness.system import scratch
from kvmharness.system.cache import remove_leftovers

VERBS = (doctor, run, litmus, suite, compare, report, validate, bisect, lab, cache, worker, asm, help)

_EPILOG = """\
exit codes: 0 pass, 1 fail, 2 usage, 3 inconclusive, 4 skipped, 5 the machine was lost or another error outside the
kernel under test; bisect, and validate --bisect: 0 good, 1 bad, 125 anything else

kvmharness help lists what there is more to read, such as `kvmharness help claims`"""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = Parser(
        prog="kvmharness",
        description="Validates KVM patches with CR3-thrashing nested guests: exact counts first, then timing.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"kvmharness {__version__}")
    top.set_defaults(top=top)
    verbs = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for verb in VERBS:
        verb.add(verbs)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and gives its exit code.

    Args:
        arguments: without the program's name; those of the process by default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options: argparse.Namespace | None = None
    judged = False  # whether the verb came to its end: an error's code is no verdict, not even where it is 1

    def command() -> int:
        nonlocal options, judged
        check_results_have_a_place()
        try:
            options = parser().parse_args(given)
        except SystemExit as end:  # argparse has said why; --help and --version end here too
            return end.code if isinstance(end.code, int) else 2
        options.command = tuple(map(_as_text, to_reproduce(given, options)))
        scratch.remove_leftovers()
        remove_leftovers()
        with ExitStack() as options.closing:
            code: int = options.handler(options, Output(options.verbosity))
        judged = True
        return code

    hold_streams()
    code = answer(command)
    settle_streams()
    bisecting = _may_be_bisecting(given) if options is None else options.bisect
    return for_bisect(code, judged=judged) if bisecting else code


def _as_text(word: str) -> str:
    """A word of the command line for the record, which is text: what else a file's name has as ``\\xff``."""
    return os.fsencode(word).decode(errors="backslashreplace")


def _may_be_bisecting(given: Sequence[str]) -> bool:
    """Whether git may be waiting for the answer to a command line that could not be read: it takes 2 for "bad"."""
    return given[:1] == ["bisect"] or any(len(word) > 3 and "--bisect".startswith(word) for word in given)
