"""What an emulated host tells about tests is believed only when it fits: no forged word becomes a test that passed."""

import pytest

from kvmharness.testing.emulated import loop
from tests.machines import FakeMachine

pytestmark = pytest.mark.slow  # each is a session of its own

RUN = "kvmharness.testing.emulated.inside:run"
START = {"pytest": "start", "nodeid": "test_it.py::test_it"}
FINISH = {"pytest": "finish", "nodeid": "test_it.py::test_it"}
WARNING = {
    "pytest": "warning",
    "text": "careful",
    "category": "UserWarning",
    "when": "runtest",
    "nodeid": "",
    "filename": "x.py",
    "lineno": 1,
    "location": None,
}


def report(when, **fields):
    facts = {
        "$report_type": "TestReport",
        "nodeid": "test_it.py::test_it",
        "location": ["test_it.py", 1, "test_it"],
        "keywords": {"test_it": 1},
        "outcome": "passed",
        "longrepr": None,
        "when": when,
        "user_properties": [],
        "sections": [],
        "duration": 0.1,
    }
    return {"pytest": "report", "report": {**facts, **fields}}


SETUP, CALL, TEARDOWN = map(report, ("setup", "call", "teardown"))
WHOLE = (START, SETUP, CALL, TEARDOWN, FINISH)
FORGED = {
    "another kind": [{**START, "pytest": "reboot"}],
    "a method's name": [{**START, "pytest": "log"}],
    "no kind": [{"nodeid": "x"}],
    "a test that nobody asked for": [{**START, "nodeid": "test_it.py::test_that"}],
    "a test without a name": [{"pytest": "start"}],
    "a test that starts twice": [START, START],
    "a test that runs twice": [*WHOLE[:4], START],
    "a report before the start": [SETUP],
    "a report of another test": [START, report("setup", nodeid="test_it.py::test_that")],
    "a report that is none": [START, {"pytest": "report", "report": 1}],
    "a report of no type": [START, report("setup", **{"$report_type": "x"})],
    "a report without sections": [START, report("setup", sections=None)],
    "an outcome that there is not": [START, report("setup", outcome="great")],
    "a phase that there is not": [START, report("collect")],
    "a failure of no shape": [
        START,
        SETUP,
        report("call", outcome="failed", longrepr={"reprcrash": None, "reprtraceback": {"reprentries": 1}}),
    ],
    "an end without a report": [START, FINISH],
    "an end without a call": [START, SETUP, TEARDOWN, FINISH],
    "an end without a teardown": [START, SETUP, CALL, FINISH],
    "an end before the start": [FINISH],
    "an end of another test": [*WHOLE[:4], {**FINISH, "nodeid": "x"}],
    "a warning without text": [{**WARNING, "text": None}],
    "a warning at line x": [{**WARNING, "lineno": "x"}],
    "a broken file without a name": [{"pytest": "collect", "text": "x"}],
}


@pytest.fixture
def emulated(boots, pytester, run, monkeypatch):
    """Runs one test in a host that emits what it is told to."""

    def go(rows):
        def forge(emit, **arguments):
            for row in rows:
                emit(row)

        monkeypatch.setattr(loop, "emulated_host", lambda *arguments, **more: FakeMachine(calls={RUN: forge}))
        pytester.makepyfile(test_it="import pytest\n@pytest.mark.nested_vmx\ndef test_it(): pass\n")
        return run("--kvm-host", "vmx")

    return go


@pytest.mark.parametrize("name", FORGED)
def test_forged(emulated, name):
    result = emulated(FORGED[name])
    outcomes = result.parseoutcomes()
    assert outcomes.get("errors") == 1
    assert ("passed" in outcomes) == (CALL in FORGED[name])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*what does not belong to its job*"])


def test_a_true_story_passes(emulated):
    emulated([WARNING, *WHOLE]).assert_outcomes(passed=1, warnings=1)


def test_a_warning_of_a_class_that_is_none_is_one(emulated):
    emulated([{**WARNING, "category": "print"}, *WHOLE]).assert_outcomes(passed=1, warnings=1)


@pytest.mark.parametrize("rows", [WHOLE[:1], WHOLE[:3]])
def test_a_session_that_ends_in_the_middle_of_a_test(emulated, rows):
    result = emulated(rows)
    assert result.parseoutcomes().get("errors") == 1
    result.stdout.fnmatch_lines(["*pytest ended in the middle of this test*"])


def test_a_test_that_nothing_was_heard_of(emulated):
    result = emulated([])
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ended its job without this test*"])
