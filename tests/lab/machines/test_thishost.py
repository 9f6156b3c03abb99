"""Borrowing a machine's KVM modules: tried for real on an emulated host, and refusals on made-up ones."""

from pathlib import Path

import pytest

from kvmharness.cells.matrix import select
from kvmharness.cells.turn import PlannedTurn
from kvmharness.lab.events import Data
from kvmharness.lab.image.initramfs import ImageParts
from kvmharness.lab.image.interpreter import LIBRARY
from kvmharness.lab.job import Job
from kvmharness.lab.kernels.source import debian
from kvmharness.lab.steps import Call
from kvmharness.patches.series import load
from kvmharness.validation.campaign import EMULATED_PLAN
from kvmharness.validation.prepare import prepare
from kvmharness.validation.probing import surroundings_of
from kvmharness.validation.snapshots import emulated_host
from tests.lab.machines.borrowing import SCENARIOS

EMULATED = [pytest.mark.slow, pytest.mark.needs("emulated_vmx")]
# What a tool on a real host has anyway, and what a job inside an emulated one has no use for.
PARTS = ImageParts(
    packages=("kvmharness.lab.machines.thishost", "subprocess", "tempfile", "gzip", "lzma", "urllib.parse")
)
TURNS = {"none": (("kvm.tdp_mmu", "Y"),), "both": (("kvm_intel.vpid", "Y"),)}
UNTOUCHED = [scenario.__name__ for scenario in SCENARIOS]


@pytest.fixture(scope="module")
def built():
    return prepare(load("fast-cr3-switch"), debian(), ("none", "both"))


@pytest.fixture(scope="module")
def planned(built):
    there = surroundings_of(emulated_host(kernel=built.kernels["none"]), built.variants[0].modules, TURNS.values())
    return {
        name: PlannedTurn(select(("a:3x3",)), there[params], EMULATED_PLAN, variant=name)
        for name, params in TURNS.items()
    }


@pytest.fixture(scope="module")
def scenarios(built, planned):
    turns = [(name, dict(TURNS[name]), turn.arguments) for name, turn in planned.items()]
    job = Job(
        (Call("borrowing:run", {"turns": turns}, required=True),),
        files={f"{LIBRARY}/borrowing.py": Path(__file__).with_name("borrowing.py")},
        modules={variant.id.name: variant.modules for variant in built.variants},
        timeout_s=300,
    )
    found = {}

    def take(event):
        if isinstance(event, Data):
            found[event.data["scenario"]] = event.data

    # No other job has such an image, so that a snapshot of it would not save anything.
    emulated_host(kernel=built.kernels["none"], parts=PARTS, snapshot=False).run(job, take)
    return found


@pytest.fixture
def outcome(scenarios, request):
    return scenarios[request.function.__name__.removeprefix("test_")]["outcome"]


def emulated(test):
    for mark in EMULATED:
        test = mark(test)
    return test


def of(outcome, kind):
    return [event for event in outcome["events"] if event["event"] == kind]


def parameters(outcome):
    return [event["data"]["parameters"] for event in of(outcome, "data") if "parameters" in event["data"]]


@emulated
@pytest.mark.parametrize("name", UNTOUCHED)
def test_afterwards_everything_is_as_before(scenarios, name):
    found = scenarios[name]
    assert found["after"] == found["before"]
    assert found["before"]["names"] == ["irqbypass", "kvm", "kvm_intel"]
    assert found["before"]["parameters"]["kvm"]["tdp_mmu"] == "N"
    assert found["before"]["parameters"]["kvm_intel"]["vpid"] == "N"
    assert found["before"]["journal"] is False


@emulated
def test_two_variants(outcome, planned):
    assert outcome["type"] is None
    assert [event["step"] for event in of(outcome, "end")] == list(range(8))
    raw = [event["data"] for event in of(outcome, "data") if "cell" in event["data"]]
    results = [result for turn, each in zip(planned.values(), raw, strict=True) for result in turn.take(each)]
    trips = EMULATED_PLAN.round_trips
    assert [(r.variant, r.error, r.counts["kvm_mmu_load"] / trips) for r in results] == [
        ("none", None, 2),
        ("both", None, 0),
    ]
    first, second = parameters(outcome)
    assert (first["kvm"]["tdp_mmu"], first["kvm_intel"]["vpid"], first["kvm_intel"]["nested"]) == ("Y", "Y", "Y")
    assert (second["kvm"]["tdp_mmu"], second["kvm_intel"]["vpid"]) == ("Y", "Y")


@emulated
def test_vm_is_open(outcome):
    assert (outcome["type"], outcome["second"]) == ("HostRequirementError", "HostRequirementError")
    assert "kvm_intel is in use" in outcome["message"]
    assert "Stop all VMs" in outcome["hint"]
    assert (outcome["events"], outcome["journal"]) == ([], False)


@emulated
def test_a_bug(outcome):
    assert outcome["type"] == "StepFailedError"
    assert of(outcome, "failed")[0]["type"] == "ZeroDivisionError"
    assert parameters(outcome)[0]["kvm"]["halt_poll_ns"] == "7", "the variant was there"


@emulated
def test_ctrl_c(outcome):
    assert outcome["type"] == "KeyboardInterrupt"


@emulated
def test_ctrl_c_while_putting_back(outcome):
    """It waits until all is as before, then it is heard."""
    assert outcome["type"] == "KeyboardInterrupt"


@emulated
def test_killed(outcome):
    assert outcome["left"]["journal"] is True
    assert outcome["left"]["parameters"]["kvm"]["halt_poll_ns"] == "7"
    assert (outcome["recovered"], outcome["again"]) == (True, False)


@emulated
def test_another_run_has_them(outcome):
    assert outcome["type"] == "HostRequirementError"


@emulated
def test_a_variant_that_does_not_load(outcome):
    assert outcome["type"] == "StepFailedError"
    assert [event["event"] for event in outcome["events"] if event["event"] != "dmesg"] == ["hello", "begin", "failed"]
    error = of(outcome, "failed")[0]
    assert error["type"] == "ModuleError"
    assert "kvm_intel.ko" in error["message"]


@emulated
def test_a_vm_left_open(outcome):
    assert outcome["type"] == "LostMachineError"
    assert "could not be put back: rmmod kvm_intel" in outcome["message"]
    assert "modprobe -r kvm_intel kvm_amd kvm && modprobe kvm && modprobe kvm_intel" in outcome["hint"]
    assert outcome["left"]["journal"] is True
    assert outcome["recovered"] is True


@emulated
def test_nothing_was_loaded(outcome):
    assert outcome["type"] is None
    assert outcome["same"] is True
    assert outcome["names"] == []
