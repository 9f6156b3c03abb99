"""What a worker does with a job that comes: it is checked, done in a child, and the child is gone whatever happens."""

import json
import threading
import time
from pathlib import Path

import pytest

from kvmharness.fleet import child, worker
from kvmharness.fleet.answers import read_answer
from kvmharness.fleet.tags import Tags, own_tags
from kvmharness.fleet.wire import Boot, Order, hash_of, write_order
from kvmharness.lab.steps import Call, Exec, Load, Unload
from kvmharness.results.jsonread import ShapeError

CELLS = "kvmharness.cells.execute:execute"
IMAGE = b"as it should be"
BOOT = Boot("vmx:skylake", hash_of(IMAGE), {})


def ended(order, *files):
    return read_answer(worker.do(write_order(order), *files)).ended


def test_a_file_that_is_not_what_its_hash_says_is_refused():
    order = Order(BOOT, (Call(CELLS),), 5.0, files={"x": BOOT.image})
    assert "is not what its hash" in ended(order, b"as it is").message
    assert "is not what its hash" in ended(order, "no bytes").message
    assert "takes 1 files came with 0" in ended(order).message


def test_a_job_of_another_schema_is_refused():
    told = read_answer(worker.do('{"schema": 9}'))
    assert (told.events, told.ended.kind) == ((), "WireError")
    assert "schema version 9" in told.ended.message


@pytest.mark.parametrize("step", [Load("p1"), Unload(), Exec(("/bin/true",)), Call("os:system"), Call(CELLS)])
def test_nothing_is_done_on_the_machine_itself(step):
    """Its modules are not for a fleet to replace, nor is anything called or run there."""
    document = json.loads(write_order(Order(BOOT, (step,), 5.0, modules={"p1": {}})))
    told = read_answer(worker.do(json.dumps({**document, "boot": None}), IMAGE))
    assert told.ended.message == "not a job: boot: expected an object, found None"
    assert told.events == ()


@pytest.fixture
def children(tmp_path, monkeypatch):
    """Children that are a script of the test's in the place of the real one."""
    (tmp_path / "fakechild.py").write_text("import os, sys, time\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(child, "__name__", "fakechild")

    def script(body):
        with (tmp_path / "fakechild.py").open("a") as file:
            file.write(body)

    return script


ORDER = Order(BOOT, (Call(CELLS),), 0.5)


def test_a_child_that_dies_takes_nothing_along_and_what_it_said_is_told(children):
    children("print('no such device', flush=True); os.abort()")
    lost = ended(ORDER, IMAGE)
    assert (lost.kind, lost.hint) == ("LostMachineError", "no such device")
    assert "status -6" in lost.message


def test_a_child_that_hangs_is_ended(children, monkeypatch, tmp_path):
    monkeypatch.setattr(worker, "_MORE_S", 0.5)
    children(f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    began = time.monotonic()
    assert "not done after 1 s" in ended(ORDER, IMAGE).message
    assert time.monotonic() - began < 20
    assert not Path("/proc", (tmp_path / "pid").read_text()).exists()


def test_a_job_that_nobody_wants_any_more_is_ended(children, monkeypatch):
    wanted = threading.Event()
    wanted.set()
    monkeypatch.setattr(worker, "_task", lambda: ("w1", lambda: not wanted.is_set()))
    children("time.sleep(600)")
    threading.Timer(0.5, wanted.clear).start()
    began = time.monotonic()
    assert "not wanted" in ended(ORDER, IMAGE).message
    assert time.monotonic() - began < 20


def test_a_child_that_says_too_much_is_not_listened_to(children, monkeypatch):
    monkeypatch.setattr(worker, "MAX_JOB_BYTES", 1000)
    children("open(sys.argv[1] + '/events', 'w').write('x' * 1001)")
    assert "more than 1000 bytes" in ended(ORDER, IMAGE).message


def test_tags_come_out_as_they_went_in_and_are_what_dask_counts():
    tags = own_tags("here", 3)
    assert Tags.from_json(tags.to_json()) == tags
    assert tags.resources()["emulator"] == 3.0
    assert all(tags.resource(host) in tags.resources() for host in tags.emulated)
    with pytest.raises(ShapeError, match="tags"):
        Tags.from_json(None)


def test_equal_emulators_with_another_image_are_another_resource():
    one = Tags("a", "1", "image", 1, {"vmx:skylake": "Bochs 2.7"})
    assert one.resource("vmx:skylake") == Tags("b", "1", "image", 9, {"vmx:skylake": "Bochs 2.7"}).resource(
        "vmx:skylake"
    )
    for other in (Tags("b", "1", "other", 1, one.emulated), Tags("b", "1", "image", 1, {"vmx:skylake": "Bochs 2.8"})):
        assert other.resource("vmx:skylake") != one.resource("vmx:skylake")
