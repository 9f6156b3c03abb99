"""JUnit XML, for CI servers: a verdict's claims, and the cells and tests of its runs, as test cases."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from kvmharness.report import alone, words
from kvmharness.report.rows import rows
from kvmharness.report.tests import outcome_of
from kvmharness.results.record import Record
from kvmharness.results.verdict import Outcome, Verdict
from kvmharness.system.shown import shown

# What XML 1.0 cannot hold, not even escaped ("Characters", production [2]); a kernel log may.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(records: Sequence[Record], verdict: Verdict | None = None) -> str:
    """The document: one suite for the claims, then one for each run.

    JUnit has no inconclusive answer; such a case is skipped with a message that says so, so that it is not counted as
    passed.
    """
    suites = ElementTree.Element("testsuites", name="kvmharness")
    if verdict:
        suite = _suite(suites, verdict.series, None)
        for claim in verdict.claims:
            case = _case(suite, verdict.series, claim.name, claim.outcome, "; ".join(claim.figures[:1]) or claim.text)
            failed = claim.outcome is Outcome.FAIL
            told = _alone(alone.of_claim(claim, records, verdict.command)) if failed else []
            _text(case, "system-out", "\n".join((claim.text, *claim.figures, *told)))
        notes = [f"{title}: {line}" for title, lines in verdict.remarks.items() for line in lines]
        _text(suite, "system-out", "\n".join((verdict.headline, *notes)))
    for record in records:
        name = f"{words.kernel(record)}, {words.machine(record)}"
        suite = _suite(suites, name, record)
        for row in rows(record):
            case = _case(suite, f"cells.{row.letter}", f"{row.id} [{row.variant}]", row.outcome, row.why)
            figures = (
                f"root loads per round trip: {words.amount(row.per_round_trip(row.loads))}"
                f" (oracle {words.amount(row.per_round_trip(row.loads_predicted))})",
                f"exits per round trip: {words.exits(row.exits)}",
                f"time per round trip: {words.ticks(row.ticks)} {record.unit}",
            )
            told = _alone(alone.of_row(record, row)) if row.outcome is Outcome.FAIL else []
            if row.outcome is not Outcome.SKIPPED:
                _text(case, "system-out", "\n".join((*figures, *told)))
        for test in record.tests:
            case = _case(suite, test.battery, f"{test.label} [{test.variant}]", outcome_of(test), test.why)
            if test.table:
                _text(case, "system-out", "\n".join(test.table))
        said = [*words.kernel_said(record), *(line for each in record.reports for line in (each.where, *each.text))]
        if said:
            _text(suite, "system-err", "\n".join(said))
    for suite in suites:
        _tally(suite)
    ElementTree.indent(suites)
    body = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _alone(command: str) -> list[str]:
    return [f"this alone: {command}"] if command else []


def _suite(parent: ElementTree.Element, name: str, record: Record | None) -> ElementTree.Element:
    suite = ElementTree.SubElement(parent, "testsuite", name=_clean(name))
    if record:
        suite.set("timestamp", _clean(record.when.started))
        suite.set("time", f"{record.when.seconds:.3f}")
        properties = ElementTree.SubElement(suite, "properties")
        facts = {fact: words.fact(record, fact) for fact in record.host}
        for key, value in {"command": " ".join(record.command), "unit": record.unit, **facts}.items():
            ElementTree.SubElement(properties, "property", name=_clean(key), value=_clean(value))
    return suite


def _case(suite: ElementTree.Element, group: str, name: str, outcome: Outcome, why: str) -> ElementTree.Element:
    case = ElementTree.SubElement(suite, "testcase", classname=_clean(group), name=_clean(name))
    match outcome:
        case Outcome.FAIL:
            ElementTree.SubElement(case, "failure", message=_clean(why))
        case Outcome.INCONCLUSIVE:
            ElementTree.SubElement(case, "skipped", message=_clean(f"INCONCLUSIVE: {why}"))
        case Outcome.SKIPPED:
            ElementTree.SubElement(case, "skipped", message=_clean(why))
    return case


def _tally(suite: ElementTree.Element) -> None:
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", "0")
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))


def _text(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = _clean(text)


def _clean(text: str) -> str:
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", shown(text))
