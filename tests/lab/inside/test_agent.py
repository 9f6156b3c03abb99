"""The agent and what it runs, outside an emulated host: everything but the port and the modules."""

import sys

import pytest

from kvmharness.errors import ExitCode, GuestError
from kvmharness.lab.inside import agent
from kvmharness.lab.inside.agent import Agent
from kvmharness.lab.inside.execute import execute


class FakeLog:
    """A kernel log that gains the lines it was given, once."""

    def __init__(self, *lines):
        self._lines = list(lines)

    def gained(self):
        lines, self._lines = self._lines, []
        return lines


def greet(emit, name):
    """A call step's function."""
    emit({"hello": name})
    print("printed", end="")
    sys.stderr.write(" twice\nand more\n")
    return {"length": len(name)}


def fail(emit):
    """A call step's function that finds the guest at fault."""
    raise GuestError("the guest spun", "look at its loop")


def crash(emit):
    """A call step's function with a bug."""
    return 1 // 0


def run(*steps, log=()):
    events = []
    Agent(events.append, FakeLog(*log)).run(list(steps))
    return events


def call(name, **fields):
    return {"do": "call", "function": f"{__name__}:{name}", **fields}


def test_a_call_emits_prints_and_returns():
    events = run(call("greet", args={"name": "L2"}), log=["kvm: hello"])
    assert events == [
        {"step": 0, "event": "begin", "do": "call"},
        {"step": 0, "event": "data", "data": {"hello": "L2"}},
        {"step": 0, "event": "output", "text": "printed twice\nand more\n"},
        {"step": 0, "event": "dmesg", "lines": ["kvm: hello"]},
        {"step": 0, "event": "end", "result": {"length": 2}},
        {"event": "bye"},
    ]


def test_the_tools_own_error_has_an_exit_code_and_no_traceback():
    error = run(call("fail"))[1]
    assert (error["type"], error["message"], error["hint"]) == ("GuestError", "the guest spun", "look at its loop")
    assert error["exit_code"] == ExitCode.FAIL
    assert "traceback" not in error


def test_a_bug_comes_with_its_traceback():
    error = run(call("crash"))[1]
    assert error["type"] == "ZeroDivisionError"
    assert error["exit_code"] is None
    assert "in crash" in error["traceback"]


@pytest.mark.parametrize("function", ["no.such.module:f", f"{__name__}:nothing"])
def test_a_function_that_is_not_there_is_an_error_event(function):
    assert run({"do": "call", "function": function})[1]["event"] == "error"


def test_a_failed_step_does_not_end_the_job_unless_it_is_required():
    after = call("greet", args={"name": "x"})
    assert [event["step"] for event in run(call("fail"), after) if event["event"] == "begin"] == [0, 1]
    assert [event["step"] for event in run(call("fail", required=True), after) if event["event"] == "begin"] == [0]
    assert run({"do": "load", "variant": "gone"}, after)[-2]["event"] == "error"


def test_standard_output_is_put_back():
    before = sys.stdout
    run(call("crash"))
    assert sys.stdout is before


def shell(script, **fields):
    pieces = []
    result = execute({"argv": ["/bin/sh", "-c", script], **fields}, pieces.append)
    return result, "".join(pieces)


def test_a_programs_output_and_status():
    result, text = shell("echo out; echo err >&2; echo $NAME; exit 7", env={"NAME": "value"})
    assert result == {"status": 7, "signal": None, "timed_out": False}
    assert text == "out\nerr\nvalue\n"


def test_a_program_that_is_killed_names_the_signal():
    assert shell("kill -SEGV $$")[0] == {"status": None, "signal": "SIGSEGV", "timed_out": False}


def test_a_program_out_of_time_is_killed_with_its_children():
    result, text = shell("echo first; sleep 60 & sleep 60", timeout_s=0.1)
    assert result == {"status": None, "signal": "SIGKILL", "timed_out": True}
    assert text in ("first\n", "")


def test_output_that_is_no_text_is_shown_escaped():
    assert shell(r"printf '\377x'")[1] == "\\xffx"


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(OSError, match="cannot start /no/such: No such file"):
        execute({"argv": ["/no/such"]}, print)


def test_the_job_is_read_from_where_the_image_puts_it():
    assert agent.JOB_PATH == "/job/job.json"
