"""What a host says about its job is believed only when it fits: forged streams, and the one error that each gives."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvmharness.errors import ExitCode, UsageError
from kvmharness.lab import jobrun
from kvmharness.lab.events import Begin, Bye, Data, Dmesg, End, Failed, Hello, Memory, Output, encode
from kvmharness.lab.job import Job, ProtocolError, StepFailedError
from kvmharness.lab.jobrun import JobRun, decode
from kvmharness.lab.steps import Call, Exec, Exited, Load, Unload
from tests.lab.test_job import plain, words

JOB = Job((Load("stock"), Call("a:b"), Exec(("/x",)), Unload()), modules={"stock": Path("modules")})
FAILED = {"event": "failed", "type": "E", "message": "m", "hint": "", "exit_code": 4, "traceback": ""}
EXITED = {"status": 0, "signal": None, "timed_out": False}
HELLO = {"event": "hello", "python": "3.11.2", "uptime_ns": 7, "nonce": ""}
# A whole job, as it comes out of a host; written by hand.
STREAM = (
    HELLO,
    {"event": "begin", "step": 0},
    {"event": "end", "step": 0, "result": ["kvm", "kvm_intel"]},
    {"event": "begin", "step": 1},
    {"event": "data", "step": 1, "data": {"a": 1}},
    {"event": "output", "step": 1, "text": "said\n"},
    {"event": "dmesg", "step": 1, "lines": ["kvm: hello"]},
    {"event": "end", "step": 1, "result": None},
    {"event": "begin", "step": 2},
    {"event": "output", "step": 2, "text": "said\n"},
    {"event": "end", "step": 2, "result": EXITED},
    {"event": "begin", "step": 3},
    {"event": "memory", "step": 3, "held": {"pages": 4096}},
    {"event": "end", "step": 3, "result": ["kvm_intel", "kvm"]},
    {"event": "bye", "events": 14},
)
EVENTS = (
    Hello("3.11.2", 7),
    Begin(0),
    End(0, ("kvm", "kvm_intel")),
    Begin(1),
    Data(1, {"a": 1}),
    Output(1, "said\n"),
    Dmesg(1, ("kvm: hello",)),
    End(1, None),
    Begin(2),
    Output(2, "said\n"),
    End(2, Exited(0, None, False)),
    Begin(3),
    Memory(3, {"pages": 4096}),
    End(3, ("kvm_intel", "kvm")),
    Bye(14),
)
BIG = 10**30


def play(rows, job=JOB, on_event=None):
    """Has a job's run take them all; (what the listener got, the run)."""
    heard = []
    run = JobRun(job, on_event or heard.append)
    for row in rows:
        run.take(row if isinstance(row, bytes) else json.dumps(row).encode())
    return heard, run


def test_a_whole_job():
    heard, run = play(STREAM)
    assert tuple(heard) == EVENTS
    assert run.complete


@pytest.mark.parametrize("cut", range(len(STREAM)))
def test_a_job_cut_short_is_not_complete(cut):
    heard, run = play(STREAM[:cut])
    assert tuple(heard) == EVENTS[:cut]
    assert not run.complete


def at(index, *rows):
    """The stream with *rows* before event *index*."""
    return [*STREAM[:index], *rows, *STREAM[index:]]


def instead(index, *rows):
    """The stream with *rows* in the place of event *index*."""
    return [*STREAM[:index], *rows, *STREAM[index + 1 :]]


def changed(index, **fields):
    return instead(index, {**STREAM[index], **fields})


def without(index, name):
    return instead(index, {key: value for key, value in STREAM[index].items() if key != name})


def failed(**fields):
    return instead(7, {**FAILED, "step": 1, **fields})


BYE = STREAM[-1]
WRONG_SHAPES = {
    "not JSON": instead(4, b"{x"),
    "not UTF-8": instead(4, b'"\xff"'),
    "cut off": instead(4, b'{"event":"da'),
    "nested without end": instead(4, b'{"event":"data","step":1,"data":' + b"[" * 100_000),
    "a number of 5000 digits": instead(4, b'{"event":"begin","step":' + b"9" * 5000 + b"}"),
    "no object": instead(4, [1]),
    "no kind": without(4, "event"),
    "a kind that is a number": changed(4, event=1),
    "an unknown kind": changed(4, event="reboot"),
    "another's private name": changed(4, event="__class__"),
    "a field too many": changed(4, extra=1),
    "no step": without(4, "step"),
    "a step that is text": changed(4, step="1"),
    "a step that is true": changed(4, step=True),
    "a step that is a fraction": changed(4, step=1.0),
    "a negative step": changed(4, step=-3),
    "an absurd step": changed(4, step=BIG),
    "python is a number": changed(0, python=3),
    "an uptime before the start": changed(0, uptime_ns=-1),
    "an absurd uptime": changed(0, uptime_ns=BIG),
    "no nonce": without(0, "nonce"),
    "a nonce that is a number": changed(0, nonce=0),
    "another run's nonce": changed(0, nonce="0123456789abcdef"),
    "no data": without(4, "data"),
    "data that is a list": changed(4, data=[1]),
    "text that is a list": changed(5, text=["x"]),
    "lines that are text": changed(6, lines="kvm: hello"),
    "a line that is a number": changed(6, lines=["a", 1]),
    "a load's result is none": changed(2, result=None),
    "a load's result holds a number": changed(2, result=["kvm", 1]),
    "an exit status that is text": changed(10, result={**EXITED, "status": "0"}),
    "an exit status that none has": changed(10, result={**EXITED, "status": 256}),
    "neither status nor signal": changed(10, result={**EXITED, "status": None}),
    "both status and signal": changed(10, result={**EXITED, "signal": "SIGSEGV"}),
    "a signal that there is not": changed(10, result={**EXITED, "status": None, "signal": "SIGNIX"}),
    "no word about the time limit": changed(10, result={"status": 0, "signal": None}),
    "a program's result is none": changed(10, result=None),
    "an exit code that there is not": failed(exit_code=77),
    "an exit code that is no error's": failed(exit_code=0),
    "an exit code that is text": failed(exit_code="4"),
    "a failure without its text": instead(7, {k: v for k, v in {**FAILED, "step": 1}.items() if k != "message"}),
    "a traceback that is none": failed(traceback=None),
}
WRONG_ORDERS = {
    "no hello": STREAM[1:],
    "hello twice": at(1, HELLO),
    "hello in the middle": at(5, HELLO),
    "a step that the job does not have": at(13, {"event": "begin", "step": 4}),
    "a step left out": [*STREAM[:3], *STREAM[8:]],
    "a step that begins twice": at(4, STREAM[3]),
    "a step again": at(8, *STREAM[3:8]),
    "a step inside another": at(5, {"event": "begin", "step": 2}),
    "data before its step": at(3, STREAM[4]),
    "data of the next step": changed(4, step=2),
    "data after its step": at(8, STREAM[4]),
    "memory of a load": at(2, {"event": "memory", "step": 0, "held": {}}),
    "memory that is no number": instead(13, {"event": "memory", "step": 3, "held": {"pages": "much"}}),
    "data of a program": at(9, {"event": "data", "step": 2, "data": {}}),
    "data of a load": at(2, {"event": "data", "step": 0, "data": {"result": {}}}),
    "output of a load": at(2, {"event": "output", "step": 0, "text": "x"}),
    "a log's lines between steps": at(3, {"event": "dmesg", "step": 0, "lines": []}),
    "two ends": at(8, STREAM[7]),
    "an end and a failure": at(8, {**FAILED, "step": 1}),
    "a failure and an end": at(7, {**FAILED, "step": 1}),
    **{f"without {row['event']}": [*STREAM[:at], *STREAM[at + 1 :]] for at, row in enumerate(STREAM[4:7], 4)},
    "bye after fewer events": changed(14, events=13),
    "bye after more events": changed(14, events=15),
    "an end without a beginning": [*STREAM[:3], *STREAM[4:]],
    "an end of another step": changed(7, step=2),
    "bye at once": [HELLO, BYE],
    "bye before the last step": [*STREAM[:11], BYE],
    "bye in a step": [*STREAM[:7], BYE],
    "bye twice": at(14, BYE),
    "something after bye": at(14, {"event": "begin", "step": 0}),
}


@pytest.mark.parametrize("name", [*WRONG_SHAPES, *WRONG_ORDERS])
def test_what_does_not_belong_to_the_job_is_one_error(name):
    stream = {**WRONG_SHAPES, **WRONG_ORDERS}[name]
    heard = []
    with pytest.raises(ProtocolError, match="what does not belong to its job: ") as caught:
        play(stream, on_event=heard.append)
    assert caught.value.exit_code == ExitCode.LOST
    assert len(str(caught.value)) < 400
    assert Bye(14) not in heard or "bye" in name


def test_the_error_says_what_and_how_far():
    with pytest.raises(ProtocolError, match=r"end of step 2, which is not going on; last heard of in step 1 \(dmesg\)"):
        play(WRONG_ORDERS["an end of another step"])


def test_after_an_error_nothing_is_taken_any_more():
    run = JobRun(JOB, lambda event: None)
    for _ in range(2):
        with pytest.raises(ProtocolError, match="begin before hello"):
            run.take(b'{"event":"begin","step":0}')
    with pytest.raises(ProtocolError, match="begin before hello"):
        run.take(encode(Hello("3.11", 1)))


def test_a_host_that_does_not_stop_talking(monkeypatch):
    monkeypatch.setattr(jobrun, "MAX_JOB_BYTES", 4000)
    talk = {"event": "output", "step": 1, "text": "x" * 900}
    with pytest.raises(ProtocolError, match="more than 4000 bytes"):
        play([*STREAM[:4], *[talk] * 5])


def test_a_log_without_end(monkeypatch):
    monkeypatch.setattr(jobrun, "MAX_LOG_BYTES", 4000)
    log = {"event": "dmesg", "step": 1, "lines": ["x" * 900]}
    with pytest.raises(ProtocolError, match="more than 4000 bytes of the kernel's log"):
        play([*STREAM[:4], *[log] * 5])


def test_the_nonce_is_held_against_the_jobs():
    job = replace(JOB, nonce="00ff")
    assert play([{**HELLO, "nonce": "00ff"}, *STREAM[1:]], job)[1].complete
    with pytest.raises(ProtocolError, match="hello of another run"):
        play(STREAM, job)


def test_what_the_listener_cannot_read_is_the_hosts_fault():
    def read(event):
        if isinstance(event, Data):
            raise UsageError("result.id: missing")

    with pytest.raises(ProtocolError, match=r"result\.id: missing; last heard of in step 1 \(data\)"):
        play(STREAM, on_event=read)


def test_a_required_step_that_fails_is_told_and_then_raised():
    heard = []
    rows = [*STREAM[:2], {**FAILED, "step": 0, "hint": "try another"}]
    with pytest.raises(StepFailedError, match="load failed: m") as caught:
        play(rows, on_event=heard.append)
    assert heard[-1] == caught.value.failed == Failed(0, "E", "m", "try another", 4)
    assert caught.value.step == JOB.steps[0]
    assert (caught.value.hint, caught.value.exit_code) == ("try another", ExitCode.SKIPPED)


def test_a_bug_shows_its_traceback_and_is_no_verdict():
    rows = [*STREAM[:2], {**FAILED, "step": 0, "type": "KeyError", "exit_code": None, "traceback": "line 7"}]
    with pytest.raises(StepFailedError, match=r"a bug: KeyError: m\nline 7") as caught:
        play(rows)
    assert caught.value.exit_code == ExitCode.LOST


def test_another_steps_failure_is_only_told():
    heard, run = play(failed())
    assert Failed(1, "E", "m", "", 4) in heard
    assert run.complete


def test_what_is_no_character_is_escaped():
    heard, _ = play(changed(5, text="\ud800 é"))
    assert Output(1, "\\ud800 é") in heard


numbers = st.integers(0, 1000)
results = st.one_of(plain, st.lists(words, max_size=3))
events = st.one_of(
    st.builds(Hello, words, st.integers(0, 2**63 - 1)),
    st.builds(Begin, numbers),
    st.builds(Data, numbers, st.dictionaries(words, plain, max_size=3)),
    st.builds(Output, numbers, words),
    st.builds(Dmesg, numbers, st.lists(words, max_size=3).map(tuple)),
    st.builds(End, numbers, results),
    st.builds(Failed, numbers, words, words, words, st.none() | st.sampled_from(list(ExitCode)[1:]), words),
    st.builds(Bye, numbers),
)


@given(events)
def test_events_come_out_as_they_went_in(event):
    assert decode(encode(event)) == event


def needed(rows):
    """The events that a job cannot do without."""
    return [row for row in rows if row["event"] not in ("data", "output", "dmesg")]


@given(st.lists(st.sampled_from(STREAM), max_size=20))
@example(list(STREAM))
@example([*STREAM[:5], *STREAM[4:]])
def test_any_order_is_the_jobs_own_or_the_one_error(rows):
    try:
        _, run = play(rows)
    except ProtocolError:
        assert tuple(rows) != STREAM[: len(rows)]
    else:
        assert needed(rows) == needed(STREAM)[: len(needed(rows))]
        assert run.complete == (needed(rows) == needed(STREAM))


@given(st.binary(max_size=60) | plain.map(lambda value: json.dumps(value).encode()))
def test_garbage_is_the_one_error(payload):
    with pytest.raises(ProtocolError):
        JobRun(JOB, lambda event: None).take(payload)
