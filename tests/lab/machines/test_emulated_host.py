"""Real boots: one machine does all the steps that can share a boot, twice, and the ends that take a host each."""

import pytest

from kvmharness.errors import LostMachineError
from kvmharness.lab.events import Bye, Data, Dmesg, End, Hello, Output
from kvmharness.lab.image.interpreter import LIBRARY, PythonParts
from kvmharness.lab.job import HangError, Job, KernelPanicError
from kvmharness.lab.kernels import build
from kvmharness.lab.machines.emulator import emulated_host
from kvmharness.lab.steps import Call, Exec, Exited, Load, Unload
from kvmharness.validation import snapshots

pytestmark = [pytest.mark.slow, pytest.mark.needs("emulated_vmx")]

BUSYBOX = "/bin/busybox"
FACTS = Call("kvmharness.hosts.facts:summary", required=True)
# A module that is in no package: it shows what a called function may do.
PROBE = b"""
import os
import time


def probe(emit, count):
    emit({"kvm": os.path.exists("/dev/kvm"), "random": len(os.urandom(4)), "affinity": sorted(os.sched_getaffinity(0))})
    for number in range(count):
        emit({"number": number, "ns": time.monotonic_ns(), "text": "x" * 2000})
    print("done", {"b", "a", "c"})
"""
CHANGED = "arch/x86/kvm/mmu/mmu.c"


@pytest.fixture(scope="module")
def kernel():
    return build.kernel()


@pytest.fixture(scope="module")
def variant(kernel):
    text = (kernel.tree / CHANGED).read_bytes()
    return build.variant(kernel.tree, {CHANGED: text + b"\nint kvmharness_was_here;\n"}, name="changed")


@pytest.fixture(scope="module")
def job(kernel, variant):
    steps = (
        Load("stock", {"kvm.tdp_mmu": "N", "kvm_amd.npt": "0"}),
        FACTS,
        Call("probe:probe", {"count": 50}),
        Unload(),
        Exec((BUSYBOX, "ls", "/sys/module/kvm"), timeout_s=10),
        Load("changed"),
        Exec((BUSYBOX, "grep", "kvmharness_was_here", "/proc/kallsyms")),
        FACTS,
        Exec((BUSYBOX, "sh", "-c", "echo kept > /dev/kmsg; kill -SEGV $$")),
        Exec((BUSYBOX, "sleep", "1000"), timeout_s=0.5),
        Exec((BUSYBOX, "ls", "/sys/kernel/tracing/events/kvm", "/sys/kernel/debug/kvm")),
        Unload(),
    )
    modules = {"stock": kernel.modules, "changed": variant}
    return Job(steps, files={f"{LIBRARY}/probe.py": PROBE}, modules=modules, timeout_s=240)


def boot(machine, job):
    events = []
    machine.run(job, events.append)
    return events


@pytest.fixture(scope="module")
def identity():
    return PythonParts().identity()


@pytest.fixture(scope="module")
def restored(kernel):
    """Where how the host has come up does not matter."""
    machine = snapshots.emulated_host(kernel=kernel)
    boot(machine, Job((), timeout_s=120))  # it is saved first, if need be
    return machine


@pytest.fixture(scope="module")
def events(identity, kernel, job):
    return boot(emulated_host(kernel=kernel), job)


def of(events, step, kind):
    return [event for event in events if isinstance(event, kind) and event.step == step]


def text(events, step):
    return "".join(event.text for event in of(events, step, Output))


def test_every_step_began_and_ended(events, job):
    assert isinstance(events[0], Hello)
    assert [event.step for event in events if isinstance(event, End)] == list(range(len(job.steps)))
    assert events[-1] == Bye(len(events) - 1)


def test_the_modules_are_loaded_with_nesting_and_the_parameters_asked_for(events):
    facts = of(events, 1, Data)[0].data
    assert {"vmx", "pml"} <= set(facts["flags"])
    assert "svm" not in facts["flags"]
    assert facts["module_parameters"]["kvm_intel"]["nested"] in ("Y", "1")
    assert facts["module_parameters"]["kvm"]["tdp_mmu"] == "N"
    assert of(events, 0, End)[0].result == ("irqbypass", "kvm", "kvm_intel")
    assert of(events, 3, End)[0].result == ("kvm_intel", "kvm", "irqbypass")
    assert "No such file" in text(events, 4)


def test_a_called_function_finds_the_host_as_promised(events):
    first, *rest = [event.data for event in of(events, 2, Data)]
    assert first == {"kvm": True, "random": 4, "affinity": [0]}
    assert [data["number"] for data in rest] == list(range(50))
    assert text(events, 2).startswith("done")


def test_a_second_variant_runs_in_the_same_boot(events):
    assert "kvmharness_was_here" in text(events, 6)
    assert of(events, 7, Data)[0].data["module_parameters"]["kvm"]["tdp_mmu"] == "Y"


def test_what_the_kernel_log_gained_belongs_to_its_step(events):
    assert of(events, 8, Dmesg)[0].lines == ("kept",)
    assert of(events, 8, End)[0].result == Exited(None, "SIGSEGV", False)


def test_a_program_out_of_time_is_stopped(events):
    assert of(events, 9, End)[0].result == Exited(None, "SIGKILL", True)


def test_tracing_and_debugfs_are_there(events):
    assert "kvm_exit" in text(events, 10)


def test_two_boots_are_the_same_to_the_nanosecond(identity, events, kernel, job):
    assert PythonParts().identity() == identity, "the package was edited between the two boots"
    assert boot(emulated_host(kernel=kernel), job) == events


def test_the_agent_answers_within_five_seconds_of_the_guests_own_clock(events):
    # Of the emulated time, which no load of this machine and no faster or slower one changes: 4.3 s with Python 3.11.
    assert 1e9 < events[0].uptime_ns < 5e9


@pytest.mark.parametrize(
    ("host", "has", "lacks"),
    [
        ("vmx:lynnfield", "vpid", "unrestricted_guest"),
        ("vmx:sandybridge", "unrestricted_guest", "shadow_vmcs"),
        ("vmx:haswell", "shadow_vmcs", "pml"),
    ],
)
def test_a_model_that_no_other_test_boots_has_what_it_is_chosen_for(kernel, host, has, lacks):
    job = Job((Load("stock"), FACTS), modules={"stock": kernel.modules}, timeout_s=120)
    events = boot(emulated_host(host, kernel), job)
    flags = of(events, 1, Data)[0].data["flags"]
    assert has in flags
    assert lacks not in flags


def test_a_kernel_panic_is_told_with_its_call_trace(restored):
    crash = Exec((BUSYBOX, "sh", "-c", "echo c > /proc/sysrq-trigger"))
    with pytest.raises(KernelPanicError, match="sysrq triggered crash") as caught:
        boot(restored, Job((crash,), timeout_s=120))
    assert any("sysrq_handle_crash" in line for line in caught.value.console)


def test_a_machine_that_hangs_is_stopped(restored):
    # Busy: an idle emulator lets the time of a sleeping guest pass at once.
    spin = Exec((BUSYBOX, "sh", "-c", "while :; do :; done"))
    with pytest.raises(HangError, match="not done after 8 s, stopped; last heard of in step 0"):
        boot(restored, Job((spin,), timeout_s=8))


def test_an_agent_that_is_killed_is_a_lost_machine(restored):
    kill = Exec((BUSYBOX, "killall", "-9", "python3"))
    with pytest.raises(LostMachineError, match="the agent inside ended early"):
        boot(restored, Job((kill,), timeout_s=120))
