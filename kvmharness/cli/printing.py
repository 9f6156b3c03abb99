"""What verbs print of records: a run's tables and tests, or the verdict on them."""

from collections.abc import Sequence

from kvmharness.cli.output import VERBOSE, Output
from kvmharness.report import alone
from kvmharness.report.tests import failure_lines, skip_lines
from kvmharness.results.record import Record
from kvmharness.results.tests import BAD, PASS, tally
from kvmharness.results.verdict import Verdict


def print_tests(record: Record, output: Output) -> None:
    """Failures with the end of what they printed, skips by their reason, how many there were of each kind."""
    every = output.verbosity >= VERBOSE
    for test in record.tests:
        if test.outcome in BAD:
            first, *lines = failure_lines(test, every=every)
            command = alone.of_test(record, test)
            lines += [f"this alone: {command}"] if command else []
            output.result("\n".join([output.paint(first, "red"), *(f"  {line}" for line in lines)]))
        elif test.outcome == PASS and every:
            output.result(f"PASS {test.label}")
    for line in skip_lines(record.tests):
        output.result(line)
    output.result(tally(record.tests))


def print_records(records: Sequence[Record], output: Output) -> None:
    """Each run: its cells as a table, and its tests."""
    from kvmharness.report.text import print_run

    for number, record in enumerate(records):
        if number:
            output.result("")
        if record.results or not record.tests:
            print_run(record)
        if record.tests:
            print_tests(record, output)


def print_answer(records: Sequence[Record], verdict: Verdict, output: Output) -> None:
    """The verdict: its claims with their figures, what the kernel complained of, and the table for a commit message."""
    from kvmharness.report.checklist import checklist_lines, cover_lines
    from kvmharness.report.commit import answered_lines
    from kvmharness.report.text import print_run, verdict_lines
    from kvmharness.report.words import kernel_reports

    for record in records if output.verbosity >= VERBOSE else ():
        print_run(record)
        output.result("")
    complaints = [line for record in records for line in kernel_reports(record)]
    output.result("\n".join([*verdict_lines(verdict, records), "", *complaints, *([""] if complaints else [])]))
    output.result("\n".join(answered_lines(records, verdict)))
    if verdict.checklist:
        lines = [*checklist_lines(verdict.checklist), "", "For the cover letter:", ""]
        output.result("\n".join(["", *lines, *cover_lines(records, verdict)]))
