"""validate: a patch series as variants, run interleaved on one host, its claims answered."""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kvmharness.cells.matrix import select
from kvmharness.cli import options as shared
from kvmharness.cli.keeping import add_resume_option, earlier, kept
from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import VERBOSE, Output, Task
from kvmharness.cli.reports import Reports, add_report_options, document
from kvmharness.errors import UsageError
from kvmharness.hosts import catalogue
from kvmharness.patches import series as series_files
from kvmharness.patches.series import Series
from kvmharness.patches.variants import check_names
from kvmharness.results.record import CellResult, Record
from kvmharness.results.tests import TestResult
from kvmharness.validation.host import HERE

if TYPE_CHECKING:
    from kvmharness.validation.campaign import Keeping
    from kvmharness.validation.places import Place
    from kvmharness.validation.prepare import Built
    from kvmharness.validation.together import Together


_DEBUG = {
    "lite": (
        "--debug-kernel",
        "run some of the cells under a kernel with lockdep, KASAN and UBSAN, too: the first report of a variant is a "
        "failure; takes five minutes to build, once",
    ),
    "kmemleak": ("--debug-kernel=kmemleak", "likewise, and look for memory that nothing points at any more"),
}


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
        "series",
        metavar="SERIES",
        help="a shipped series, an mbox, a folder of patches, git revisions A..B, or - for mails on the standard input",
    )
    made.add_argument("cells", metavar="CELL", nargs="*", help="cells instead of the usual ones, as for `run`")
    shared.add_host_option(made, here=True, several=True)
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
    made.add_argument(
        "--litmus",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="run litmus tests under every judged variant too; by default unless cells are named",
    )
    # The whole word is an option's name: what follows --debug-kernel is the series.
    for name, (word, what) in _DEBUG.items():
        made.add_argument(word, dest="debug", action="store_const", const=name, help=what)
    made.add_argument("--bisect", action="store_true", help="exit codes for git bisect run: 0, 1, or 125")
    shared.add_parameter_option(made)
    add_report_options(made)
    add_resume_option(made)


@dataclass(frozen=True, slots=True)
class Request:
    """A series to validate.

    Attributes:
        series: what to validate.
        places: where; at least one.
        params: names of the module parameters that every cell is to be run with.
        variants: names of those to make; all when empty.
        turns: how often each variant is loaded.
        reports: the files to write about it.
        command: how to make this run again.
        before: what was kept of the run when it was cut short.
        litmus: litmus tests run as well.
        debug: which debug kernel is to be run as well; empty for none.
    """

    series: Series
    places: "tuple[Place, ...]"
    params: tuple[str, ...]
    variants: tuple[str, ...]
    turns: int
    reports: Reports
    command: tuple[str, ...]
    before: tuple[Record, ...] = ()
    litmus: bool = False
    debug: str = ""


def read(options: argparse.Namespace) -> Request:
    """What is asked for.

    Raises:
        UsageError: no such series, cell or host, or options that contradict each other or do not fit the host.
    """
    from kvmharness.lab.kernels.build import Kernel
    from kvmharness.validation.places import places

    if options.claims_only and options.claims is None:
        raise UsageError("--claims-only without --claims", "Name the file with the claims: --claims FILE.")
    words, names = _apart(options.cells, options.variants)
    hosts = shared.hosts(options)
    reports = Reports.of(options, (options.series, options.claims))
    series = series_files.load(
        options.series,
        repository=options.repository,
        claims=options.claims,
        claims_only=options.claims_only,
    )
    check_names(series, names)
    params = dict(options.param)
    there = places(
        hosts,
        select(words) if words else (),
        params,
        source=options.source,
        may_reload=options.reload_modules,
    )
    if options.debug and all(isinstance(place.base, Kernel) for place in there):
        raise UsageError(
            f"{_DEBUG[options.debug][0]} boots a kernel that is built for it, which only an emulated host does",
            f"Add --host {catalogue.first().spec}.",
        )
    litmus = not words if options.litmus is None else options.litmus
    before = earlier(options)
    if before and len(there) > 1:
        raise UsageError("--resume goes on with the run on one host", "Name that host alone, with its record.")
    return Request(
        series,
        there,
        tuple(params),
        names,
        options.turns,
        reports,
        options.command,
        before,
        litmus,
        options.debug or "",
    )


def _apart(cells: list[str], variants: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Cells, and names of variants: `--variants` takes all the words that follow, cells too."""
    return (*cells, *(word for word in variants if ":" in word)), tuple(word for word in variants if ":" not in word)


def act(request: Request, output: Output) -> int:
    """Validates, prints the verdict, writes the reports."""
    for place in request.places:
        place.host.recover(output.say)
    for note in request.series.every_note:
        output.say(note)
    with ExitStack() as journals:
        with output.task("Validate") as task:
            found = run(request, task, partial(_kept, request, output, journals))
        _show(found, request.reports, output)
    return found.verdict.outcome.exit_code


def _kept(request: Request, output: Output, journals: ExitStack, host: str) -> "Keeping":
    """What is kept of the run on a host."""
    return journals.enter_context(
        kept(request.reports, request.before, output, host if len(request.places) > 1 else "")
    )


def run(request: Request, task: Task, keeping: "Callable[[str], Keeping]") -> "Together":
    """Looks whether it can be done, builds the variants, runs them, answers the claims.

    Args:
        request: what is asked for.
        task: takes how it is getting on.
        keeping: gives what is kept of the run on a host, by the host's name.

    Raises:
        UsageError: the series gives no variant, or as :func:`kvmharness.validation.look.look`.
        HostRequirementError, LostMachineError: a host cannot run it, or was lost.
    """
    from kvmharness.litmus.named.all import every
    from kvmharness.validation.debugkernel import debug_passes
    from kvmharness.validation.look import look
    from kvmharness.validation.places import check_claims, under
    from kvmharness.validation.prepare import make
    from kvmharness.validation.together import Part, validate_on

    machines = [place.host.machine_for() for place in request.places]
    name = request.series.name
    task.step(f"looking at {name}")
    bases = dict.fromkeys(place.base for place in request.places)
    seen = {base: look(request.series, base, request.variants, progress=task.tick) for base in bases}
    places = [under(place, seen[place.base], request.params) for place in request.places]
    check_claims(seen.values(), places)
    skipped = tuple(line for place in places for line in place.skipped)
    for line in skipped:
        task.step(line)
    for number, title in enumerate(seen[places[0].base].plan.patches, 1):
        task.step(f"p{number}: {title}")
    task.step(f"building the variants of {name}")
    built = {base: make(found, progress=task.tick) for base, found in seen.items()}
    for made in built.values():
        _tell(made, task)
    debug = debug_passes(places, seen, request.debug, every() if request.litmus else (), task.tick)
    parts = [
        Part(place.host.spec, machine, built[place.base], place.cells, place.host.plan, keeping(place.host.spec), more)
        for place, machine, more in zip(places, machines, debug, strict=True)
        if place.cells
    ]

    def on_result(host: str, result: CellResult, done: int, total: int) -> None:
        where = f"{host}: " if len(parts) > 1 else ""
        task.step(f"{where}{result.variant}, {result.id}", done, total)

    tests = 0

    def on_test(host: str, test: TestResult) -> None:
        nonlocal tests
        tests += 1
        where = f"{host}: " if len(parts) > 1 else ""
        task.step(f"{where}{test.variant}, litmus test {test.label}: {test.outcome}", tests)

    return validate_on(
        parts,
        turns=request.turns,
        command=request.command,
        untested=skipped,
        on_result=on_result,
        on_test=on_test if request.litmus else None,
        tell=task.step,
    )


def _tell(built: "Built", task: Task) -> None:
    """Says what will run, and what will not.

    Raises:
        UsageError: nothing will.
    """
    for variant, why in built.subject.left_out.items():
        task.step(f"variant {variant} left out: {why}")
    if not built.variants:
        raise UsageError(f"{built.plan.series.name} gives no variant for this kernel")
    task.step(f"running variants {', '.join(variant.id.name for variant in built.variants)}")


def _show(found: "Together", reports: Reports, output: Output) -> None:
    from kvmharness.report.commit import commit_lines
    from kvmharness.report.text import print_run, verdict_lines
    from kvmharness.report.words import kernel_reports

    records = tuple(found.records.values())
    if reports.printed:
        output.result(document(records, found.verdict))
    else:
        for record in records if output.verbosity >= VERBOSE else ():
            print_run(record)
            output.result("")
        complaints = [line for record in records for line in kernel_reports(record)]
        output.result("\n".join([*verdict_lines(found.verdict), "", *complaints, *([""] if complaints else [])]))
        output.result("\n".join(commit_lines(records, found.verdict)))
    reports.write(output, records, found.verdict)
