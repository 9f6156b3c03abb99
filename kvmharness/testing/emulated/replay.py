"""Turns what an emulated host tells about its tests into pytest's own events, as if the tests ran here."""

import builtins
import warnings
from collections.abc import Iterable
from typing import Any

import pytest

from kvmharness.errors import LostMachineError
from kvmharness.lab.job import HangError, KernelPanicError
from kvmharness.testing.emulated.localise import localise
from kvmharness.testing.failure import render

_PHASES = ("setup", "call", "teardown")
_OUTPUT_LINES = 40


class Replay:
    """The tests of one boot.

    Args:
        session: of this side.
        items: the tests, in the order in which they are to run.
        host: the emulated host's name.

    Attributes:
        started: whether any test has begun.
    """

    def __init__(self, session: pytest.Session, items: Iterable[pytest.Item], host: str) -> None:
        self._session, self._host = session, host
        self._left = {item.nodeid: item for item in items}
        self._running: pytest.Item | None = None
        self._phases: list[str] = []
        self._output: list[str] = []
        self._collect_errors: dict[str, str] = {}
        self.started = False

    @property
    def left(self) -> list[pytest.Item]:
        """The tests that nothing has been heard of yet."""
        return list(self._left.values())

    def on_event(self, event: dict[str, Any]) -> None:
        """Takes one event of the machine.

        Raises:
            pytest.Session.Failed, pytest.Session.Interrupted: the session is to stop (``-x`` and the like).
        """
        data = event.get("data")
        if isinstance(data, dict) and "pytest" in data:
            getattr(self, f"_on_{data['pytest'].replace(' ', '_')}")(data)
        elif event.get("event") == "output":
            self._on_output(str(event["text"]))
        elif event.get("event") == "error":
            self._output += [str(event.get("traceback") or f"{event['message']} {event.get('hint', '')}".strip())]

    def lost(self, error: LostMachineError) -> None:
        """The machine is gone: the test that was running did it."""
        text = "\n".join([str(error), "", *error.console])
        if self._running is not None:
            self._fail(self._running, text, infrastructure=not isinstance(error, KernelPanicError | HangError))

    def give_up(self, why: str) -> None:
        """Reports an error on every test that nothing was heard of."""
        said = "\n".join(self._output[-_OUTPUT_LINES:])
        for item in self.left:
            self._on_start({"nodeid": item.nodeid})
            details = self._collect_errors.get(item.nodeid.partition("::")[0]) or said
            self._fail(item, f"{why}\n\n{details}".strip(), infrastructure=True)

    def _on_start(self, data: dict[str, Any]) -> None:
        item = self._left.pop(data["nodeid"])
        self.started = True
        self._running, self._phases, self._output = item, [], []
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)

    def _on_report(self, data: dict[str, Any]) -> None:
        item = self._running
        assert item is not None
        localise(data["report"], item.config)
        report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data["report"])
        report.sections = [(name, render(text)) for name, text in report.sections]
        report.location = item.location
        if isinstance(report.longrepr, list):  # of a skip; JSON has no tuples
            report.longrepr = tuple(report.longrepr)
        report.user_properties = [tuple(pair) for pair in report.user_properties]
        self._log(item, report)

    def _on_finish(self, data: dict[str, Any]) -> None:
        item, self._running = self._running, None
        assert item is not None
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)

    def _on_collect(self, data: dict[str, Any]) -> None:
        self._collect_errors[data["nodeid"].partition("::")[0]] = data["text"]

    def _on_internal_error(self, data: dict[str, Any]) -> None:
        self._output.append(data["text"])

    def _on_warning(self, data: dict[str, Any]) -> None:
        name = data["category"]
        category = getattr(builtins, name, getattr(pytest, name, UserWarning))
        message = warnings.WarningMessage(data["text"], category, data["filename"], data["lineno"])
        location = tuple(data["location"]) if data["location"] else None
        self._session.config.hook.pytest_warning_recorded.call_historic(
            kwargs={"warning_message": message, "when": data["when"], "nodeid": data["nodeid"], "location": location}
        )

    def _on_output(self, text: str) -> None:
        self._output += text.splitlines()
        if self._session.config.getoption("capture") == "no":
            print(text, end="", flush=True)

    def _log(self, item: pytest.Item, report: pytest.TestReport) -> None:
        self._phases.append(report.when or "")
        item.ihook.pytest_runtest_logreport(report=report)

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
        self._on_finish({"nodeid": item.nodeid})

    def _report(self, item: pytest.Item, when: Any, outcome: Any, text: str | None) -> pytest.TestReport:
        sections = []
        if text is not None and self._output:
            sections.append((f"Output of {self._host}", "\n".join(self._output[-_OUTPUT_LINES:])))
        keywords: Any = dict.fromkeys(item.keywords, 1)
        return pytest.TestReport(item.nodeid, item.location, keywords, outcome, text, when, sections)
