"""What travels between client and worker: it comes out as it went in, and what is not of the schema is refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmharness.errors import ExitCode, LostMachineError
from kvmharness.fleet import answers, wire
from kvmharness.fleet.answers import Answer, Ended
from kvmharness.fleet.machine import replay
from kvmharness.fleet.wire import Boot, Order, WireError
from kvmharness.lab.job import HangError, Job, KernelPanicError, ProtocolError, StepFailedError
from kvmharness.lab.jobrun import JobRun
from kvmharness.lab.steps import Call, Exec, Load, Unload, encode
from tests.lab.test_job import steps
from tests.lab.test_jobrun import EVENTS, JOB, STREAM

# sha256sum of an empty file, and of the three bytes abc: FIPS 180-4's example.
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
BOOT = Boot("vmx:skylake", ABC, {"kvm.ko": EMPTY}, "quiet", True, False)
ORDER = Order(
    BOOT,
    (
        Load("p1", {"kvm.tdp_mmu": "N"}),
        Call("a:b", {"c": [1, None]}, True),
        Exec(("/x", "y"), 2.5),
        Unload(False, True),
    ),
    timeout_s=30.0,
    silence_s=4.0,
    files={"x": EMPTY},
    modules={"p1": {"kvm.ko": ABC, "kvm-intel.ko": EMPTY}},
)


def test_a_hash_is_the_contents_sha_256():
    assert (wire.hash_of(b""), wire.hash_of(b"abc")) == (EMPTY, ABC)


def test_an_order_comes_out_as_it_went_in():
    assert wire.read_order(wire.write_order(ORDER)) == ORDER
    assert ORDER.hashes == (ABC, EMPTY)


@given(st.lists(steps, max_size=4).map(tuple).filter(lambda made: b"Infinity" not in encode(made)))  # not JSON
def test_every_step_does(made):
    order = Order(BOOT, made, 1.0)
    assert wire.read_order(wire.write_order(order)) == order


def test_its_files_are_where_a_job_wants_them(tmp_path):
    for name in (ABC, EMPTY):
        (tmp_path / name).write_bytes(b"abc" if name == ABC else b"")
    job = ORDER.job(tmp_path)
    assert (job.steps, job.timeout_s, job.silence_s) == (ORDER.steps, 30.0, 4.0)
    assert Path(job.files["x"]).read_bytes() == b""
    assert {path.name: path.read_bytes() for path in job.modules["p1"].iterdir()} == {
        "kvm.ko": b"abc",
        "kvm-intel.ko": b"",
    }


def spoiled(change):
    document = json.loads(wire.write_order(ORDER))
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda it: it.update(schema=2), "schema version 2 is not known"),
        (lambda it: it.update(more=1), "unknown field 'more'"),
        (lambda it: it.pop("boot"), "boot: missing"),
        (lambda it: it.update(timeout_s="1"), "timeout_s: expected a number"),
        (lambda it: it["steps"].append({"do": "pickle"}), r"steps\[4\].do: 'pickle' is no step"),
        (lambda it: it["steps"][1].update(function=7), r"steps\[1\].function: expected a string"),
        (lambda it: it["files"].update(x="../../etc/passwd"), "files.x: '../../etc/passwd' is no SHA-256"),
        (lambda it: it["modules"]["p1"].update({"../kvm.ko": ABC}), r"modules.p1: '../kvm.ko' is no file name"),
        (lambda it: it["boot"]["modules"].update({".": ABC}), "boot.modules: '.' is no file name"),
        (lambda it: it["boot"].update(image=""), "boot.image: '' is no SHA-256"),
    ],
)
def test_what_is_no_order_is_refused_with_its_place(change, place):
    with pytest.raises(WireError, match=place) as caught:
        wire.read_order(spoiled(change))
    assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("document", ["", "{", "[]", "null", '{"schema": 1}', "\ud800", "[" * 100_000])
def test_what_is_no_document_is_refused_at_both_ends(document):
    with pytest.raises(WireError, match="not a job"):
        wire.read_order(document)
    with pytest.raises(WireError, match="not an answer"):
        answers.read_answer(document)


@pytest.mark.parametrize("document", [b"bytes", None, object(), 7])
def test_an_answer_that_is_no_text_is_none(document):
    with pytest.raises(WireError, match="expected a text"):
        answers.read_answer(document)


def test_an_answer_comes_out_as_it_went_in():
    answer = Answer("w1", ('{"event": "x"}',), Ended("HangError", "silent", "more time", ("a line",)))
    assert answers.read_answer(answers.write_answer(answer)) == answer


def answered(*events, ended=None):
    return Answer("w1", tuple(map(json.dumps, events)), ended)


def test_events_are_handed_on_as_if_the_host_were_here():
    heard = []
    replay(answered(*STREAM), JobRun(JOB, heard.append))
    assert tuple(heard) == EVENTS


@pytest.mark.parametrize(
    ("kind", "error"),
    [("HangError", HangError), ("KernelPanicError", KernelPanicError), ("SystemExit", LostMachineError)],
)
def test_how_a_host_was_lost_is_told_with_its_worker_and_console(kind, error):
    heard = []
    with pytest.raises(error, match="w1: why") as caught:
        replay(answered(*STREAM[:4], ended=Ended(kind, "why", "do this", ("last",))), JobRun(JOB, heard.append))
    assert type(caught.value) is error
    assert (caught.value.hint, caught.value.console, len(heard)) == ("do this", ("last",), 4)


def test_a_worker_that_says_what_does_not_belong_to_the_job_is_not_believed():
    with pytest.raises(ProtocolError, match="hello of another run"):
        replay(answered({**STREAM[0], "nonce": "of another"}), JobRun(JOB, print))
    with pytest.raises(ProtocolError, match="begin before hello"):
        replay(answered(*STREAM[1:]), JobRun(JOB, print))
    with pytest.raises(LostMachineError, match="not done to its end"):
        replay(answered(*STREAM[:-1]), JobRun(JOB, lambda event: None))


def test_a_step_that_failed_there_fails_here():
    job = Job((Call("a:b", required=True),))
    failed = {"event": "failed", "step": 0, "type": "E", "message": "m", "hint": "", "exit_code": 4, "traceback": ""}
    with pytest.raises(StepFailedError, match="call failed: m"):
        replay(answered(STREAM[0], STREAM[1], failed), JobRun(job, lambda event: None))
