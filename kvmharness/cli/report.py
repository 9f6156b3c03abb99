"""report: what a run printed and wrote, made again from its record."""

import argparse
from dataclasses import dataclass

from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import Output
from kvmharness.cli.printing import print_answer, print_records
from kvmharness.cli.reports import Reports, add_report_options
from kvmharness.errors import UsageError
from kvmharness.results.document import by_host, load_answered
from kvmharness.results.record import Record
from kvmharness.results.verdict import Verdict


def add(verbs: Verbs) -> None:  # type: ignore[valid-type]
    """Registers the verb."""
    made = verb(
        verbs,
        "report",
        read,
        act,
        "show a record again, and make the page and the other files of it",
        "Nothing is run or judged again: it ends as the run did, and says what it said.",
        examples=(
            "kvmharness report record.json",
            "kvmharness report record.json --html page.html",
        ),
    )
    made.add_argument(
        "records",
        metavar="RECORD",
        nargs="+",
        help="a file that --json wrote, or the .part of a run that was cut short; of several hosts, one for each",
    )
    add_report_options(made, record=False)


@dataclass(frozen=True, slots=True)
class Request:
    """Records to show.

    Attributes:
        records: of each host; there may be none beside a verdict.
        verdict: on them, if they have one.
        reports: the files to write.
    """

    records: tuple[Record, ...]
    verdict: Verdict | None
    reports: Reports


def read(options: argparse.Namespace) -> Request:
    """What is asked for.

    Raises:
        UsageError: a file is no record, two are of the same host or have a verdict each, or a report cannot be written.
    """
    found = [load_answered(name) for name in options.records]
    records = tuple(record for own, _ in found for record in own)
    verdicts = [verdict for _, verdict in found if verdict]
    if verdicts and len(found) > 1:
        raise UsageError("a verdict is about the records beside it only", "Name its file alone.")
    by_host(records)  # refuses two of one
    return Request(records, next(iter(verdicts), None), Reports.of(options, options.records))


def act(request: Request, output: Output) -> int:
    """Prints the tables, or the verdict, and writes the files."""
    from kvmharness.report.tests import outcome_of_runs

    if request.verdict is None:
        print_records(request.records, output)
        outcome = outcome_of_runs(request.records)
    else:
        print_answer(request.records, request.verdict, output)
        outcome = request.verdict.outcome
    request.reports.write(output, request.records, request.verdict)
    return outcome.exit_code
