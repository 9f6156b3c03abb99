"""validate: a patch series as variants, run interleaved on one host, its claims answered."""

import argparse
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kvmharness.cells.matrix import select
from kvmharness.cli import options as shared
from kvmharness.cli.keeping import add_resume_option, earlier, kept
from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import Output
from kvmharness.cli.printing import print_answer
from kvmharness.cli.reports import Reports, add_report_options, document
from kvmharness.errors import UsageError
from kvmharness.hosts import catalogue
from kvmharness.patches import series as series_files
from kvmharness.patches.variants import check_names
from kvmharness.results.record import Record
from kvmharness.validation import trust
from kvmharness.validation.host import HERE

if TYPE_CHECKING:
    from kvmharness.validation.campaign import Keeping
    from kvmharness.validation.together import Together
    from kvmharness.validation.whole import Order


_MORE = (
    "--thorough adds the kernel's selftests, builds in other configurations, the debug kernel, every setting of module "
    "parameters that matters, and the list of what KVM's maintainers ask for; --unit-tests PATH adds kvm-unit-tests"
)
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
        examples=(
            "kvmharness validate my-series.mbox",
            "kvmharness validate fast-cr3-switch a:3x3 c:3/AABB --host vmx --json record.json",
            "kvmharness validate - a:3x3 --host svm <my-series.mbox",
        ),
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
        f"after; refused while a VM runs; {trust.RELOADING}",
    )
    made.add_argument(trust.UNSANDBOXED, dest="unsandboxed", action="store_true", help=trust.UNSANDBOXED_HELP)
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
    made.add_argument(
        "--thorough",
        action="store_true",
        help="everything that KVM's maintainers ask for: builds without new warnings in several configurations, "
        "selftests, litmus tests, the debug kernel, other module parameters, both vendors; and a list of it for the "
        "cover letter",
    )
    made.add_argument(
        "--unit-tests",
        metavar="PATH",
        type=Path,
        help="run kvm-unit-tests with and without the series: a built tree of them, or a folder of .flat files",
    )
    made.add_argument(
        "--settings",
        metavar="MODULE.NAME=VALUE[,...]",
        type=shared.setting,
        action="append",
        help="module parameters to run tests under, once for each set; default for none. Without it those that the "
        "code which the series changes hangs on",
    )
    # The whole word is an option's name: what follows --debug-kernel is the series.
    for name, (word, what) in _DEBUG.items():
        made.add_argument(word, dest="debug", action="store_const", const=name, help=what)
    made.add_argument("--bisect", action="store_true", help="exit codes for git bisect run: 0, 1, or 125")
    shared.add_parameter_option(made)
    shared.add_silicon_options(made)
    add_report_options(made)
    shared.add_fleet_options(made)
    add_resume_option(made)


@dataclass(frozen=True, slots=True)
class Request:
    """A series to validate.

    Attributes:
        order: what is to be done.
        reports: the files to write about it.
        before: what was kept of the run when it was cut short.
    """

    order: "Order"
    reports: Reports
    before: tuple[Record, ...] = ()


def read(options: argparse.Namespace) -> Request:
    """What is asked for.

    Raises:
        UsageError: no such series, cell or host, or options that contradict each other or do not fit the host.
    """
    from kvmharness.lab.kernels.build import Kernel
    from kvmharness.suites.unittests.tree import read_tree
    from kvmharness.validation.look import touched_paths
    from kvmharness.validation.places import places, usual_hosts
    from kvmharness.validation.whole import Order, Wanted

    if options.claims_only and options.claims is None:
        raise UsageError("--claims-only without --claims", "Name the file with the claims: --claims FILE.")
    words, names = _apart(options.cells, options.variants)
    reports = Reports.of(options, (options.series, options.claims))
    series = series_files.load(
        options.series,
        repository=options.repository,
        claims=options.claims,
        claims_only=options.claims_only,
    )
    check_names(series, names)
    trust.check_build(options.series, touched_paths(series), allowed=options.unsandboxed)
    named = words or options.param or options.bisect
    hosts = shared.hosts(options, usual_hosts(series, one=bool(named) and not options.thorough))
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
    litmus = options.thorough or not words if options.litmus is None else options.litmus
    before = earlier(options)
    names_of = [str(record.host.get("name", "")) for record in before]
    if before and len(there) > 1 and set(names_of) - {place.host.spec for place in there}:
        raise UsageError(
            f"--resume: a record is of {', '.join(name or 'a host without a name' for name in names_of)}",
            "Name the hosts of the run that was cut short, and the record of each.",
        )
    wanted = Wanted(
        litmus=litmus,
        debug=options.debug or ("lite" if options.thorough else ""),
        thorough=options.thorough,
        unit_tests=read_tree(options.unit_tests) if options.unit_tests else (),
        settings=tuple(options.settings) if options.settings else None,
    )
    order = Order(
        series, there, tuple(params), names, options.turns, options.command, wanted, len(there) if options.fleet else 1
    )
    return Request(order, reports, before)


def _apart(cells: list[str], variants: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Cells, and names of variants: `--variants` takes all the words that follow, cells too."""
    return (*cells, *(word for word in variants if ":" in word)), tuple(word for word in variants if ":" not in word)


def act(request: Request, output: Output) -> int:
    """Validates, prints the verdict, writes the reports."""
    from kvmharness.validation import whole

    for place in request.order.places:
        place.host.recover(output.say)
    for note in filter(None, (trust.note(), *request.order.series.every_note)):
        output.say(note)
    with ExitStack() as journals:
        with output.task("Validate") as task:
            found = whole.run(request.order, task, partial(_kept, request, output, journals))
        _show(found, request.reports, output)
    if not request.order.wanted.thorough:
        output.say(_MORE)
    return found.verdict.outcome.exit_code


def _kept(request: Request, output: Output, journals: ExitStack, host: str) -> "Keeping":
    """What is kept of the run on a host."""
    return journals.enter_context(
        kept(request.reports, request.before, output, host if len(request.order.places) > 1 else "")
    )


def _show(found: "Together", reports: Reports, output: Output) -> None:
    records = tuple(found.records.values())
    if reports.printed:
        output.document(document(records, found.verdict))
    else:
        print_answer(records, found.verdict, output)
    reports.write(output, records, found.verdict)
