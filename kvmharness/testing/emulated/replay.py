"""Turns what an emulated host tells about its tests into pytest's own events, as if the tests ran here."""

import builtins
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from kvmharness.errors import LostMachineError
from kvmharness.lab.events import Data, End, Event, Failed, Output
from kvmharness.lab.job import HangError, KernelPanicError
from kvmharness.results.jsonread import ShapeError, an_object, integer, text
from kvmharness.system.shown import all_shown, shown
from kvmharness.testing.emulated.localise import localise
from kvmharness.testing.failure import render

_PHASES = ("setup", "call", "teardown")
_OUTCOMES = ("passed", "failed", "skipped", "rerun")
_WARNING = ("text", "category", "when", "nodeid", "filename")
_OUTPUT_LINES = 40
_SPINS = "A guest that spins with IF = 0 keeps its emulated host from everything, the test's own time limit included."


class Teller:
    """Takes what happens to a test; as it stands, it tells pytest."""

    def start(self, item: pytest.Item) -> None:
        """The test begins."""
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)

    def report(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """One phase of it is over."""
        item.ihook.pytest_runtest_logreport(report=report)

    def finish(self, item: pytest.Item) -> None:
        """It is over."""
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


class Replay:
    """The tests of one boot.

    Args:
        session: of this side.
        items: the tests, in the order in which they are to run.
        host: the emulated host's name.
        tell: is told what happens.

    Attributes:
        started: whether any test has begun.
    """

    def __init__(
        self, session: pytest.Session, items: Iterable[pytest.Item], host: str, tell: Teller | None = None
    ) -> None:
        self._session, self._host, self._tell = session, host, tell or Teller()
        self._left = {item.nodeid: item for item in items}
        self._running: pytest.Item | None = None
        self._phases: dict[str, str] = {}  # of the running test, with their outcomes
        self._output: list[str] = []
        self._collect_errors: dict[str, str] = {}
        self._handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            "collect": self._on_collect,
            "start": self._on_start,
            "report": self._on_report,
            "finish": self._on_finish,
            "warning": self._on_warning,
            "internal error": self._on_internal_error,
            "alive": lambda data: None,
        }
        self.started = False

    @property
    def left(self) -> list[pytest.Item]:
        """The tests that nothing has been heard of yet."""
        return list(self._left.values())

    def on_event(self, event: Event) -> None:
        """Takes one event of the machine.

        Raises:
            ShapeError: it tells of a test that nobody asked for, or of one in a way that cannot be.
            pytest.Session.Failed, pytest.Session.Interrupted: the session is to stop (``-x`` and the like).
        """
        match event:
            case Data(data=data):
                kind = text(data.get("pytest"), "pytest")
                if kind not in self._handlers:
                    raise ShapeError(f"pytest: nothing is called {kind[:40]!r}")
                self._handlers[kind](all_shown(data))
            case Output(text=said):
                self._on_output(shown(said))
            case Failed():
                self._output.append(shown(event.traceback or f"{event.message} {event.hint}".strip()))
        if isinstance(event, End | Failed) and self._running is not None:
            self._fail(self._running, "pytest ended in the middle of this test", infrastructure=True)

    def lost(self, error: LostMachineError) -> None:
        """The machine is gone: the test that was running did it."""
        lines = [str(error), *([_SPINS] if isinstance(error, HangError) else []), "", *error.last_lines]
        text = shown("\n".join(lines))
        if self._running is not None:
            self._fail(self._running, text, infrastructure=not isinstance(error, KernelPanicError | HangError))

    def give_up(self, why: str) -> None:
        """Reports an error on every test that nothing was heard of."""
        said = "\n".join(self._output[-_OUTPUT_LINES:])
        for item in self.left:
            self._start(self._left.pop(item.nodeid))
            details = self._collect_errors.get(item.nodeid.partition("::")[0]) or said
            self._fail(item, f"{why}\n\n{details}".strip(), infrastructure=True)

    def _on_start(self, data: dict[str, Any]) -> None:
        nodeid = text(data.get("nodeid"), "nodeid")
        if self._running is not None or nodeid not in self._left:
            raise ShapeError(f"{nodeid[:200]} starts, which nobody asked for now")
        self._start(self._left.pop(nodeid))

    def _start(self, item: pytest.Item) -> None:
        self.started = True
        self._running, self._phases, self._output = item, {}, []
        self._tell.start(item)

    def _on_report(self, data: dict[str, Any]) -> None:
        row = an_object(data.get("report"), "report")
        item = self._the_running_test(row)
        try:
            report = _report_of(item, row)
        except Exception as error:  # whatever pytest makes of what it did not write
            raise ShapeError(f"report: {type(error).__name__}: {error}") from error
        if report.when not in _PHASES or report.outcome not in _OUTCOMES:
            raise ShapeError(f"report: a phase {report.when!r} that {report.outcome!r}")
        self._log(item, report)

    def _on_finish(self, data: dict[str, Any]) -> None:
        item = self._the_running_test(data)
        wanted = {"setup", "teardown"}
        if self._phases.get("setup") == "passed" and not item.config.getoption("setuponly"):
            wanted.add("call")
        if lacking := wanted - set(self._phases):
            raise ShapeError(f"{item.nodeid} ends without its {min(lacking)}")
        self._finish(item)

    def _the_running_test(self, data: dict[str, Any]) -> pytest.Item:
        nodeid = text(data.get("nodeid"), "nodeid")
        if self._running is None or nodeid != self._running.nodeid:
            raise ShapeError(f"{nodeid[:200]} is not the test that is running")
        return self._running

    def _finish(self, item: pytest.Item) -> None:
        self._running = None
        self._tell.finish(item)
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)

    def _on_collect(self, data: dict[str, Any]) -> None:
        self._collect_errors[text(data.get("nodeid"), "nodeid").partition("::")[0]] = text(data.get("text"), "text")

    def _on_internal_error(self, data: dict[str, Any]) -> None:
        self._output.append(text(data.get("text"), "text"))

    def _on_warning(self, data: dict[str, Any]) -> None:
        said, name, when, nodeid, file = (text(data.get(key), key) for key in _WARNING)
        known = getattr(builtins, name, getattr(pytest, name, None))
        category = known if isinstance(known, type) and issubclass(known, Warning) else UserWarning
        message = warnings.WarningMessage(said, category, file, integer(data.get("lineno"), "lineno"))
        location = tuple(data["location"]) if isinstance(data.get("location"), list) else None
        self._session.config.hook.pytest_warning_recorded.call_historic(
            kwargs={"warning_message": message, "when": when, "nodeid": nodeid, "location": location}
        )

    def _on_output(self, said: str) -> None:
        self._output += said.splitlines()
        if self._session.config.getoption("capture") == "no":
            print(said, end="", flush=True)

    def _log(self, item: pytest.Item, report: pytest.TestReport) -> None:
        self._phases[report.when or ""] = report.outcome
        self._tell.report(item, report)

    def _fail(self, item: pytest.Item, text: str, *, infrastructure: bool) -> None:
        """Ends a test that cannot end itself; where the machine is to blame, with an error rather than a failure."""
        phase = next((name for name in _PHASES if name not in self._phases), "teardown")
        if phase == "setup" and not infrastructure:
            self._log(item, self._report(item, "setup", "passed", None))
            phase = "call"
        elif phase == "call" and infrastructure:
            phase = "teardown"
        self._log(item, self._report(item, phase, "failed", text))
        if phase != "teardown":
            self._log(item, self._report(item, "teardown", "passed", None))
        self._finish(item)

    def _report(self, item: pytest.Item, when: Any, outcome: Any, text: str | None) -> pytest.TestReport:
        sections = []
        if text is not None and self._output:
            sections.append((f"Output of {self._host}", "\n".join(self._output[-_OUTPUT_LINES:])))
        keywords: Any = dict.fromkeys(item.keywords, 1)
        return pytest.TestReport(item.nodeid, item.location, keywords, outcome, text, when, sections)


def _report_of(item: pytest.Item, row: dict[str, Any]) -> pytest.TestReport:
    """A report as it was written in the emulated host, about this machine's files."""
    localise(row, item.config)
    report = item.config.hook.pytest_report_from_serializable(config=item.config, data=row)
    report.sections = [(name, render(said)) for name, said in report.sections]
    report.location = item.location
    if isinstance(report.longrepr, list):  # of a skip; JSON has no tuples
        report.longrepr = tuple(report.longrepr)
    report.user_properties = [tuple(pair) for pair in report.user_properties]
    assert isinstance(report, pytest.TestReport)
    return report
