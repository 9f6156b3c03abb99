"""litmus --export: a test as a file for another project's tree."""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvmharness.cli.output import Output
from kvmharness.cli.reports import check_output
from kvmharness.errors import ExitCode, UsageError
from kvmharness.litmus.program import Program
from kvmharness.system.files import write_whole
from kvmharness.validation.hostbase import Host

KINDS = ("selftest",)


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """Options that say what is exported, and where to."""
    parser.add_argument(
        "--export",
        metavar="KIND",
        choices=KINDS,
        help="write the test as a C selftest for tools/testing/selftests/kvm instead of running it; --host vmx or svm "
        "says whose virtualization it uses",
    )
    parser.add_argument("--output", metavar="FILE", help="where --export writes to, otherwise it is printed")


@dataclass(frozen=True, slots=True)
class Export:
    """A test to export.

    Attributes:
        program: the test.
        host: for whose vendor.
        output: the file to write; printed when None.
    """

    program: Program
    host: Host
    output: str | None

    @classmethod
    def of(
        cls, options: argparse.Namespace, programs: Sequence[Program], host: Host, inputs: Iterable[str]
    ) -> "Export | None":
        """What is asked for; None where it is something else.

        Args:
            options: of the command line.
            programs: the tests that it names.
            host: that it names.
            inputs: files that were read.

        Raises:
            UsageError: it is not one test, or the file cannot be written or is one that was read.
        """
        if options.export is None:
            if options.output is not None:
                raise UsageError("--output is about what --export writes", "Say --export selftest as well.")
            return None
        if options.random is not None or len(programs) != 1:
            what = "random ones" if options.random is not None else str(len(programs))
            raise UsageError(f"--export takes one test, not {what}", "Name a test that --list shows, or a file.")
        if options.output is not None:
            check_output("output", options.output, inputs)
        return cls(programs[0], host, options.output)


def export(request: Export, output: Output) -> int:
    """Writes it.

    Raises:
        UsageError: the test cannot be had for this vendor.
    """
    # Not at the top: to plan and to assemble takes a while to load, for which no other verb would want to wait.
    from kvmharness.litmus.export.selftest import selftest
    from kvmharness.vendors.known import of_module

    vendor = of_module(request.host.vendor_module)
    assert vendor is not None
    text = selftest(request.program, vendor)
    if request.output is None:
        output.result(text.rstrip("\n"))
    else:
        write_whole(request.output, text.encode())
        output.say(f"{request.output}: {request.program.name}, for {vendor.names.title} where it enters L2")
    return ExitCode.PASS
