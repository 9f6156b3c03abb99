"""What goes wrong is noticed, made short, and told with what it takes to see it again; nothing runs outside."""

import os
import signal
from types import SimpleNamespace

import pytest

from kvmharness.abi.errors import ArgumentError
from kvmharness.lab.events import Data, Dmesg
from kvmharness.lab.job import KernelPanicError
from tests.folders import KERNEL_LOGS
from tests.fuzz import inside
from tests.fuzz.hunt import Hunted
from tests.fuzz.inside import IOCTLS, WAITS, NotEmulatedError, done
from tests.fuzz.shrink import shortest

CALLS = [{"do": f"KVM_{number}", "on": "k0"} for number in range(20)]
WARNING = (KERNEL_LOGS / "warning.txt").read_text().splitlines()


@pytest.fixture
def performer(monkeypatch):
    """Stands for the one that makes calls: gives its function each of them."""

    def use(function):
        monkeypatch.setattr(inside, "_performer", lambda level: SimpleNamespace(do=function))

    return use


def test_it_refuses_to_run_outside_of_an_emulated_host(performer):
    performer(lambda call: pytest.fail("a call was made"))
    emitted = []
    with pytest.raises(NotEmulatedError, match="not made on this machine's own"):
        inside.run(emitted.append, level=IOCTLS, sequences=[CALLS])
    assert emitted == []


def test_an_emulated_host_is_known_by_its_kernels_command_line(tmp_path):
    place = tmp_path / "cmdline"
    place.write_text("console=ttyS0 kvmharness.lab=vmx:skylake rdinit=/init\n")
    inside.refuse_outside(str(place))
    place.write_text("console=ttyS0 rdinit=/init\n")
    with pytest.raises(NotEmulatedError):
        inside.refuse_outside(str(place))


def test_answers_of_the_kernel_are_no_failure(performer):
    performer(lambda call: "22")
    assert done(IOCTLS, CALLS) == (["22"] * 20, [])


def test_an_error_of_another_type_is_a_failure(performer):
    def do(call):
        if call["do"] == "KVM_7":
            raise OverflowError("can't convert negative number to unsigned")
        return "ok"

    performer(do)
    outcomes, (kind, why) = done(IOCTLS, CALLS)
    assert (len(outcomes), kind) == (7, "OverflowError")
    assert "in do" in why


def test_a_process_that_dies_is_a_failure(performer):
    performer(lambda call: os.kill(os.getpid(), signal.SIGKILL) if call["do"] == "KVM_3" else "ok")
    assert done(IOCTLS, CALLS) == (["ok"] * 3, ["SIGKILL", "the process died"])


def test_one_that_waits_is_ended_and_is_none(performer, monkeypatch):
    monkeypatch.setattr(inside, "_SEQUENCE_S", 0.05)
    performer(lambda call: signal.pause() if call["do"] == "KVM_3" else "ok")
    assert done(IOCTLS, CALLS) == (["ok", "ok", "ok", WAITS], [])


def test_a_failure_that_takes_two_calls_is_shrunk_to_them(performer):
    def do(call, seen=[]):  # noqa: B006 - of each child
        seen.append(call["do"])
        if {"KVM_2", "KVM_17"} <= set(seen):
            raise OverflowError
        return "ok"

    performer(do)
    found = shortest(CALLS, lambda some: done(IOCTLS, some)[1][:1] == ["OverflowError"])
    assert [call["do"] for call in found] == ["KVM_2", "KVM_17"]


def hunted():
    return Hunted(IOCTLS, 5, [CALLS, CALLS])


def test_a_failure_is_told_with_seed_and_calls():
    found = hunted()
    found.take(Data(1, {"begins": 1}))
    found.take(
        Data(1, {"number": 1, "outcomes": ["ok"], "failure": ["TypeError", "Traceback ..."], "calls": CALLS[3:4]})
    )
    assert found.text().splitlines() == [
        "seed 5, ioctls, sequence 1: TypeError",
        "Traceback ...",
        '{"do": "KVM_3", "on": "k0"}',
    ]


def test_what_the_kernel_reports_is_told_with_the_last_calls_before_it():
    found = hunted()
    found.take(Data(1, {"begins": 1}))
    marks = [f"fuzz: 1.{number} KVM_{number} on k0" for number in range(12)]
    found.take(Dmesg(1, (*marks[:9], *WARNING, *marks[9:])))
    ((sequence, call, words),) = found.reports
    assert (sequence, call, words.kind) == (1, 8, "WARNING")
    assert found.text().splitlines()[-1] == '{"do": "KVM_8", "on": "k0"}'
    assert '"KVM_9"' not in found.text()


def test_a_panic_is_told_with_the_sequence_that_was_going_on():
    found = hunted()
    found.take(Data(1, {"begins": 1}))
    found.lose(KernelPanicError("the kernel panicked", console=("Kernel panic - not syncing: Fatal exception",)))
    assert "seed 5, ioctls, sequence 1: the kernel panicked" in found.text()
    assert [words.kind for _, _, words in found.reports] == ["panic"]


def test_nothing_wrong_is_nothing_to_say():
    found = hunted()
    found.take(Data(1, {"number": 0, "outcomes": ["ok", "22"], "failure": [], "calls": []}))
    found.take(Dmesg(1, ("fuzz: 0.0 KVM_0 on k0", "kvm: vcpu 0: requested 1 ns lapic timer period limited")))
    assert found.text() == ""
    assert found.calls == 2


def test_the_error_is_one_of_ours_and_of_pythons():
    assert issubclass(ArgumentError, ValueError)
    assert issubclass(ArgumentError, TypeError)
