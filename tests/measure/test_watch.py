"""Where the calling thread runs during a job, and what is kept of what disturbed it."""

import os
import time
from contextlib import suppress
from threading import Thread

import pytest

from kvmharness.errors import UsageError
from kvmharness.measure.watch import ANY, Watch
from tests.hostfiles import HostFiles


@pytest.fixture
def allowed():
    """The CPUs that this thread may use, the same afterwards."""
    before = os.sched_getaffinity(0)
    yield sorted(before)
    assert os.sched_getaffinity(0) == before


def test_the_thread_is_pinned_during_the_job_only(allowed):
    for cpu in allowed:
        watch = Watch(str(cpu))
        with watch.run():
            assert os.sched_getaffinity(0) == {cpu}
        assert os.sched_getaffinity(0) == set(allowed)
        assert watch.facts == {"pinned_to_cpu": cpu, "guest_memory": "touched"}


def test_an_error_in_the_job_unpins_too(allowed):
    with pytest.raises(ValueError, match="x"), Watch(str(allowed[0])).run():
        raise ValueError("x")


def test_the_quietest_is_chosen_once(allowed, tmp_path):
    watch = Watch(root=str(tmp_path))
    for _ in range(2):
        with watch.run():
            assert os.sched_getaffinity(0) == {allowed[-1]}  # nothing is known here, so the last


def test_unpinned(allowed):
    watch = Watch(ANY, ("huge", "locked"))
    with watch.run():
        assert os.sched_getaffinity(0) == set(allowed)
    assert watch.facts == {"pinned_to_cpu": None, "guest_memory": "touched, huge, locked"}


def test_a_cpu_that_there_is_not(allowed):
    with pytest.raises(UsageError, match="CPU 99999") as caught:
        Watch("99999")
    assert str(allowed[0]) in caught.value.hint


def test_what_disturbed_the_run_is_kept_whatever_ends_it(allowed, tmp_path):
    host = HostFiles(tmp_path)
    watch = Watch(root=str(tmp_path))
    status = "proc/thread-self/status"
    host.put(status, "nonvoluntary_ctxt_switches:\t7")
    with suppress(KeyboardInterrupt), watch.run():
        host.put(status, "nonvoluntary_ctxt_switches:\t77")
        raise KeyboardInterrupt
    assert [remark.partition(";")[0] for remark in watch.remarks if remark.startswith("preemption")] == [
        "preemption: the thread was taken off its CPU 70 times"
    ]


def test_a_neighbour_on_the_same_cpu_is_found(allowed):
    """Of this process, but not of this thread: whoever it is takes the CPU away."""
    watch, stop = Watch(str(allowed[0])), []

    def spin():
        os.sched_setaffinity(0, {allowed[0]})
        while not stop:
            sum(range(1000))

    neighbour = Thread(target=spin)
    neighbour.start()
    try:
        with watch.run():
            time.sleep(0.5)
    finally:
        stop.append(True)
        neighbour.join()
    assert [remark for remark in watch.remarks if remark.startswith("other work: CPU")]
