"""Runs inside an emulated host: pytest over the chosen tests, each report sent out as soon as it is there."""

import os
import signal
from collections.abc import Callable, Generator
from importlib import import_module
from json import dumps, loads
from typing import Any

import pytest
from _pytest.config import default_plugins

from kvmharness.errors import KvmHarnessError
from kvmharness.guest.shipped import unpack
from kvmharness.testing.names import INI, INSIDE

Emit = Callable[[dict[str, Any]], None]

PLUGIN = "kvmharness.pytest_plugin"
# Nobody here reads what they write, or they cost imports.
_LEFT_OUT = ("cacheprovider", "pastebin", "doctest", "stepwise", "faulthandler", "terminal", "debugging")


def run(
    emit: Emit,
    *,
    folder: str,
    invoked_in: str,
    files: list[str],
    nodeids: list[str],
    arguments: list[str],
    options: dict[str, Any],
    plugins: list[str],
    timeout_s: float,
    images: dict[str, Any],
) -> None:
    """Runs the tests *nodeids*, in this order, and emits what happens.

    Args:
        emit: sends one event out.
        folder: stands for the rootdir.
        invoked_in: where pytest was started outside, relative to the rootdir.
        files: that the tests stand in.
        nodeids: of the tests.
        arguments: more for pytest.
        options: values of its options, as they are outside.
        plugins: modules to load.
        timeout_s: how long one phase of a test may take.
        images: of the shipped guest programs, assembled outside.

    Raises:
        KvmHarnessError: pytest did not get as far as running tests.
    """
    unpack(images)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(os.path.join(folder, invoked_in))
    command = [
        "--continue-on-collection-errors",
        "--rootdir",
        folder,
        "--confcutdir",
        folder,
        "-c",
        os.path.join(folder, INI),
        *arguments,
    ]
    command += [word for name in _LEFT_OUT for word in ("-p", f"no:{name}")]
    hide_imported_names()
    reporter = Reporter(emit, nodeids, options, timeout_s)
    # As modules, not by -p: pytest would warn of each that it finds imported.
    modules = [import_module(name) for name in (PLUGIN, *plugins)]
    ended = pytest.main([*command, *(os.path.join(folder, file) for file in files)], [*modules, reporter])
    if ended in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        raise KvmHarnessError(f"pytest inside the emulated host ended with {pytest.ExitCode(ended).name}")


def hide_imported_names() -> None:
    """Makes dir() of pytest's plugins leave out what they only import, four fifths of their names.

    pytest looks for hooks and fixtures under each name: otherwise a third of what a session costs before its first
    test.
    """
    for plugin in default_plugins:
        module = import_module(f"_pytest.{plugin}")
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        vars(module)["__dir__"] = own.copy


class Reporter:
    """The plugin that chooses the tests and sends what happens to them.

    Every event has one key, ``pytest``, with the name of what happened, and the facts beside it.
    """

    def __init__(self, emit: Emit, nodeids: list[str], options: dict[str, Any], timeout_s: float) -> None:
        self._emit, self._options, self._timeout_s = emit, options, timeout_s
        self._rank = {nodeid: rank for rank, nodeid in enumerate(nodeids)}
        self._config: pytest.Config | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Gives the options their values before anybody reads them."""
        self._config = config
        config.pluginmanager.register(object(), INSIDE)
        for name, value in self._options.items():
            setattr(config.option, name, value)
        signal.signal(signal.SIGALRM, self._too_long)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keeps the chosen tests, in the order of the outside."""
        chosen = [item for item in items if item.nodeid in self._rank]
        items[:] = sorted(chosen, key=lambda item: self._rank[item.nodeid])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be imported in here."""
        if report.failed:
            self._emit({"pytest": "collect", "nodeid": report.nodeid, "text": report.longreprtext})

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins: from now on a crash is its own."""
        self._emit({"pytest": "start", "nodeid": nodeid})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of a test is over."""
        assert self._config is not None
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        try:
            self._emit({"pytest": "report", "report": data})
        except TypeError:  # a plugin has put something of its own on the report
            self._emit({"pytest": "report", "report": loads(dumps(data, default=repr))})

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """A test is over."""
        self._emit({"pytest": "finish", "nodeid": nodeid})

    def pytest_warning_recorded(self, warning_message: Any, when: str, nodeid: str, location: Any) -> None:
        """A warning for the summary."""
        facts = {"text": str(warning_message.message), "category": warning_message.category.__name__}
        place = {"filename": warning_message.filename, "lineno": warning_message.lineno, "location": location}
        self._emit({"pytest": "warning", "when": when, "nodeid": nodeid, **facts, **place})

    def pytest_internalerror(self, excrepr: Any) -> None:
        """Something in pytest or a plugin broke."""
        self._emit({"pytest": "internal error", "text": str(excrepr)})

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_setup(self) -> Generator[None, Any, Any]:
        """A time limit on a test's fixtures."""
        return (yield from self._limited())

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self) -> Generator[None, Any, Any]:
        """On the test itself."""
        return (yield from self._limited())

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(self) -> Generator[None, Any, Any]:
        """And on what cleans up after it."""
        return (yield from self._limited())

    def _limited(self) -> Generator[None, Any, Any]:
        signal.setitimer(signal.ITIMER_REAL, self._timeout_s)
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _too_long(self, number: int, frame: Any) -> None:
        pytest.fail(f"not done after {self._timeout_s:g} s of the emulated host's time (--kvm-timeout)")
