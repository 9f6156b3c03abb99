"""What came of a unit test: a result for each thing that it reports, and one for how it ended.

Source: kvm-unit-tests, lib/report.c, lib/abort.c and scripts/runtime.bash.
"""

import re
from collections.abc import Mapping, Sequence

from kvmharness.results.tests import FAIL, HANG, PASS, SKIP
from kvmharness.suites.test import Line, Ran, steady

_REPORT = re.compile(r"(PASS|FAIL|SKIP|XPASS|XFAIL|KFAIL): (.*)$")
_OUTCOMES = {"PASS": PASS, "FAIL": FAIL, "SKIP": SKIP, "XPASS": FAIL, "XFAIL": PASS, "KFAIL": PASS}
_SUMMARY = re.compile(r"SUMMARY: (.*)$")
_LAST_WORDS = re.compile(r"(ABORT: |Unhandled |.*Assert failed|.*assert failed|ASSERT)")
_DETAIL_LINES = 12
_NO_END = "it did not come to its end in its time"
_LAST_LINES = 20

_PASSED, _FAILED, _ABORTED = 0, 1, 63
_SKIPPED = 77 >> 1  # QEMU makes an odd number of it
_UNHANDLED = 7  # lib/x86/desc.c


def judged(name: str, ran: Ran) -> Sequence[Line]:
    """Judges what the VMM emitted, see :func:`kvmharness.suites.unittests.execute.execute`.

    Args:
        name: of the test.
        ran: what came of it.
    """
    text = "".join(str(data["output"]) for data in ran.data if "output" in data)
    lines = text.splitlines()
    end = next((data for data in ran.data if "ended" in data), None)
    return [*_reports(name, lines), _whole(name, lines, end, ran)]


def _reports(name: str, lines: Sequence[str]) -> list[Line]:
    """A line for each report; one whose name was there already has its number behind it."""
    found: list[Line] = []
    times: dict[str, int] = {}
    for number, line in enumerate(lines):
        if not (report := _REPORT.match(line)):
            continue
        outcome = _OUTCOMES[report[1]]
        what = steady(report[2])
        times[what] = times.get(what, 0) + 1
        full = f"{name}: {what}" + (f" #{times[what]}" if times[what] > 1 else "")
        if outcome == PASS:
            found.append(Line(full))
        elif outcome == SKIP:
            found.append(Line(full, SKIP, "the test itself skips it"))
        else:
            why = "it was expected to fail, and did not" if report[1] == "XPASS" else "the test reports a failure"
            found.append(Line(full, outcome, why, (line, *_details(lines[number + 1 :]))))
    return found


def _details(lines: Sequence[str]) -> list[str]:
    """What is told of a failure behind its line: all that is set in."""
    details: list[str] = []
    for line in lines[:_DETAIL_LINES]:
        if not line.startswith(("\t", "  ")):
            break
        details.append(line)
    return details


def _whole(name: str, lines: Sequence[str], end: Mapping[str, object] | None, ran: Ran) -> Line:
    """How the test ended."""
    last = tuple(lines[-_LAST_LINES:])
    if ran.lost:
        # Whether the host sees it or stands still itself, it is the same.
        return Line(name, ran.lost, _NO_END if ran.lost == HANG else ran.why, (*last, *ran.table))
    if ran.failed:
        return Line(name, FAIL, ran.failed, last)
    if end is None:
        return Line(name, FAIL, "it said nothing of its end", last)
    outcome, why = _ended(lines, end)
    states = end.get("states", ())
    assert isinstance(states, list | tuple)
    return Line(name, outcome, why, (*last, *states) if outcome != PASS else ())


def _ended(lines: Sequence[str], end: Mapping[str, object]) -> tuple[str, str]:
    why = str(end.get("why", ""))
    match end["ended"]:
        case "exit":
            return _code(lines, end["code"])
        case "shutdown":
            return FAIL, "a triple fault"
        case "timeout":
            return HANG, _NO_END
        case "flood":
            return FAIL, f"it was stopped: it printed more than {end['limit']} bytes"
        case "memory":
            return SKIP, f"it was stopped: {why}"
        case "skip":
            return SKIP, why
    return FAIL, why or str(end["ended"])


def _last(lines: Sequence[str]) -> str:
    """What a test said last before it summed up: why it has nothing to do here."""
    return next((line for line in reversed(lines) if line.strip() and not _SUMMARY.match(line)), "")


def _code(lines: Sequence[str], code: object) -> tuple[str, str]:
    summary = next((found[1] for line in reversed(lines) if (found := _SUMMARY.match(line))), "")
    words = next((steady(line) for line in lines if _LAST_WORDS.match(line)), "")
    if code == _PASSED:
        return (PASS, "") if lines else (FAIL, "it ended without a word")
    if code == _SKIPPED:
        skipped = next((report[2] for line in lines if (report := _REPORT.match(line)) and report[1] == "SKIP"), "")
        return SKIP, steady(skipped or _last(lines)) or "the test skips itself"
    if code == _FAILED:
        return FAIL, steady(summary) or words or "it ended with the code 1"
    if code == _ABORTED:
        return FAIL, words or "it aborted"
    if code == _UNHANDLED and words:
        return FAIL, words
    return FAIL, f"it ended with the code {code}" + (f": {words}" if words else ", which means nothing")
