"""The executor, with modules that are only pretended: what a step does, says and raises becomes events."""

import io
import json
import sys
import threading

import pytest

from kvmharness.errors import ExitCode, GuestError
from kvmharness.lab.events import MAX_EVENT_BYTES, Begin, Bye, Data, Dmesg, End, Failed, Hello, Memory, Output
from kvmharness.lab.inside.executor import Executor
from kvmharness.lab.inside.modules import Loader, ModuleError
from kvmharness.lab.job import Job, StepFailedError
from kvmharness.lab.jobrun import decode
from kvmharness.lab.machines.thiskernel import ThisKernel
from kvmharness.lab.steps import Call, Exec, Exited, Load, Unload, encode
from tests.machines import FakeLoader, FakeLog, FakeMachine


def greet(emit, name):
    """A call step's function."""
    emit({"hello": name, "tuple": (1, 2)})
    print("printed", end="")
    sys.stderr.write(" twice\nand more\n")
    return {"length": len(name)}


def fail(emit):
    """A call step's function that finds the guest at fault."""
    raise GuestError("the guest spun", "look at its loop")


def crash(emit):
    """A call step's function with a bug."""
    return 1 // 0


def leave(emit):
    """A call step's function that wants the process to end."""
    raise SystemExit(3)


def interrupt(emit):
    """A call step's function during which Ctrl-C is pressed."""
    raise KeyboardInterrupt


def emit_a_set(emit):
    """A call step's function whose data cannot travel, and which finds that out."""
    try:
        emit({"set": {1}})
    except TypeError as error:
        emit({"refused": str(error)})


def emit_too_much(emit):
    """A call step's function that emits more than an event may hold."""
    emit({"text": "x" * MAX_EVENT_BYTES})


def return_itself(emit):
    """A call step's function whose result cannot travel."""
    return emit


def print_in_a_thread(emit):
    """A call step's function with a thread of its own."""
    thread = threading.Thread(target=print, args=("from a thread",))
    thread.start()
    thread.join()


def print_later(emit):
    """A call step's function that lets somebody keep its standard output."""
    LATER.append(sys.stdout)


LATER = []


def events_of(*steps, log=(), loader=None, survives=Exception):
    """What the executor sends, hello and bye aside."""
    events = []
    log = None if log is None else FakeLog(*log)
    executor = Executor(loader or FakeLoader(), lambda payload: events.append(decode(payload)), log, survives)
    executor.run(encode(steps))
    assert type(events[0]) is Hello
    assert events[0].python == ".".join(map(str, sys.version_info[:3]))
    return events[1:]


def call(name, **options):
    return Call(f"{__name__}:{name}", **options)


def test_a_call_emits_prints_and_returns():
    assert events_of(call("greet", args={"name": "L2"}), log=["kvm: hello"]) == [
        Begin(0),
        Dmesg(0, ("kvm: hello",)),  # first, so that it is told whose it is
        Data(0, {"hello": "L2", "tuple": [1, 2]}),
        Output(0, "printed twice\nand more\n"),
        End(0, {"length": 2}),
        Bye(6),
    ]


def test_every_kind_of_step():
    steps = (Load("stock"), Exec(("/bin/sh", "-c", "echo $A; exit 7"), env={"A": "x"}), Unload(memory=True))
    assert [event for event in events_of(*steps) if not isinstance(event, Begin)] == [
        End(0, ["kvm", "kvm_intel"]),
        Output(1, "x\n"),
        End(1, {"status": 7, "signal": None, "timed_out": False}),
        Memory(2, {"pages": 1 << 20}),
        End(2, ["kvm_intel", "kvm"]),
        Bye(9),
    ]


def test_memory_is_read_only_for_who_asks():
    assert [type(event) for event in events_of(Unload())] == [Begin, End, Bye]


def test_the_tools_own_error_has_an_exit_code_and_no_traceback():
    assert events_of(call("fail"))[1] == Failed(0, "GuestError", "the guest spun", "look at its loop", ExitCode.FAIL)


def test_a_bug_comes_with_its_traceback():
    failed = events_of(call("crash"))[1]
    assert (failed.type, failed.exit_code) == ("ZeroDivisionError", None)
    assert "in crash" in failed.traceback


@pytest.mark.parametrize("function", ["no.such.module:f", f"{__name__}:nothing"])
def test_a_function_that_is_not_there_is_an_event(function):
    assert isinstance(events_of(Call(function))[1], Failed)


def test_data_that_cannot_travel_is_the_functions_to_hear_of():
    told = events_of(call("emit_a_set"))[1]
    assert told == Data(0, {"refused": "a set is not plain JSON and cannot leave the host under test"})


@pytest.mark.parametrize(("name", "type_"), [("emit_too_much", "ValueError"), ("return_itself", "TypeError")])
def test_what_cannot_travel_fails_the_step(name, type_):
    begin, failed, bye = events_of(call(name))
    assert (begin, failed.type, bye) == (Begin(0), type_, Bye(3))


def test_a_failed_step_does_not_end_the_job_unless_it_is_required():
    after = call("greet", args={"name": "x"})

    def begun(step, **options):
        events = events_of(step, after, **options)
        return [event.step for event in events if isinstance(event, Begin)], isinstance(events[-1], Bye)

    def refuse(variant):
        raise ModuleError("insmod: refused")

    assert begun(call("fail")) == ([0, 1], True)
    assert begun(call("fail", required=True)) == ([0], False)
    assert begun(Load("x"), loader=FakeLoader(on_load=refuse)) == ([0], False)
    assert begun(Load("x", required=False), loader=FakeLoader(on_load=refuse)) == ([0, 1], True)
    assert begun(Unload(), loader=FakeLoader(on_unload=refuse)) == ([0], False)


@pytest.mark.parametrize(("name", "error"), [("leave", SystemExit), ("interrupt", KeyboardInterrupt)])
def test_the_end_of_the_process_is_an_event_only_inside_an_emulated_host(name, error):
    assert events_of(call(name), survives=BaseException)[1].type == error.__name__
    before = sys.stdout, sys.stderr
    with pytest.raises(error):
        events_of(call(name))
    assert (sys.stdout, sys.stderr) == before


def test_without_a_kernel_log_there_is_none():
    assert events_of(call("print_in_a_thread"), log=None) == [
        Begin(0),
        Output(0, "from a thread\n"),
        End(0, None),
        Bye(4),
    ]


def test_standard_output_is_put_back(capsys):
    before = sys.stdout
    events_of(call("crash"))
    assert sys.stdout is before
    events_of(call("print_later"))
    print("for the terminal", file=LATER.pop())
    assert capsys.readouterr().err == "for the terminal\n"


def test_what_a_listener_and_its_threads_print_is_not_the_steps(monkeypatch):
    """Progress is shown while a step runs."""
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    printed, go = threading.Event(), threading.Event()

    def refresh():
        go.wait(5)
        sys.stderr.write("(moving)")
        printed.set()

    def step(emit):
        go.set()
        assert printed.wait(5)
        emit({})

    thread = threading.Thread(target=refresh)
    thread.start()
    heard = []

    def show(event):
        heard.append(type(event).__name__)
        print(".", end="", file=sys.stderr)

    FakeMachine(calls={f"{__name__}:greet": step}).run(Job((call("greet"),)), show)
    thread.join()
    assert heard == ["Hello", "Begin", "Data", "End", "Bye"]
    assert screen.getvalue() == "..(moving)..."


class Enough(Exception):
    """A listener's own."""


def test_a_listener_that_has_had_enough_is_no_failed_step():
    heard = []

    def on_event(event):
        heard.append(event)
        if isinstance(event, Data):
            raise Enough

    with pytest.raises(Enough):
        FakeMachine().run(Job((call("greet", args={"name": "x"}),)), on_event)
    assert [type(event) for event in heard] == [Hello, Begin, Data]


def test_this_kernel_does_jobs_with_the_same_contract():
    heard = []
    steps = (call("greet", args={"name": "L2"}), Exec(("/bin/sh", "-c", "exit 3")), call("fail"))
    ThisKernel().run(Job(steps), heard.append)
    assert [event for event in heard if isinstance(event, Data | Output | End | Failed | Bye)] == [
        Data(0, {"hello": "L2", "tuple": [1, 2]}),
        Output(0, "printed twice\nand more\n"),
        End(0, {"length": 2}),
        End(1, Exited(3, None, False)),
        Failed(2, "GuestError", "the guest spun", "look at its loop", ExitCode.FAIL),
        Bye(len(heard) - 1),
    ]


@pytest.mark.parametrize("step", [Load("stock"), Unload()])
def test_this_kernels_modules_stay(step, tmp_path):
    with pytest.raises(StepFailedError, match="stay as they are"):
        ThisKernel().run(Job((step,), modules={"stock": tmp_path}), lambda event: None)


def test_a_job_as_it_lies_in_an_image():
    """The text is what an image holds; no Python object goes in."""
    heard = []
    job = json.dumps([{"do": "unload", "required": True}]).encode()
    Executor(Loader(), lambda payload: heard.append(json.loads(payload)), None).run(job)
    assert [event["event"] for event in heard] == ["hello", "begin", "failed"]
    assert heard[2]["type"] == "ModuleError"
