"""What spoils figures on a host that a folder describes, before a run and over it."""

import os
from dataclasses import replace

import pytest

from kvmharness.measure.spoilerfiles import cpu_list
from kvmharness.measure.spoilers import Finding, findings, quietest, snapshot
from tests.hostfiles import HostFiles

CPU = "sys/devices/system/cpu"
INTERRUPTS = """\
           CPU0       CPU1       CPU3
 24:          {0}          0          7  IO-APIC   5-edge      ACPI:Ged
 43:          5          {1}          0 PCI-MSIX-0000:00:05.0   1-edge      nvme0q1
LOC:       1000       {2}       3000   Local timer interrupts
ERR:          4
"""


class BusyHost(HostFiles):
    """A host on which everything that spoils figures can be set."""

    def __init__(self, root):
        super().__init__(root)
        self.remove(f"{CPU}/vulnerabilities")
        self.stat()

    def stat(self, *busy, steal=0):
        """What the CPUs did by now, in ticks: as the kernel counts it, a guest's time is in user, too."""
        lines = ["cpu  1 2 3 4 5 6 7 8 9 10"]
        lines += [f"cpu{n} {ticks} 0 0 900 0 0 0 {steal} {ticks} 0" for n, ticks in enumerate(busy)]
        self.put("proc/stat", "\n".join([*lines, "intr 36648487 0 0", "ctxt 5"]))

    def thread(self, *, ticks=0, migrations=0, preemptions=0):
        """The calling thread, whose name has a bracket and a blank."""
        self.put("proc/thread-self/stat", f"7 (vcpu) 0 (x) R 1 1 1 0 -1 4194304 1 0 0 0 {ticks} 0 9 9 20 0 1 0 5")
        self.put("proc/thread-self/sched", f"x (7, #threads: 1)\n---\nse.nr_migrations      :     {migrations}\n")
        counted = f"voluntary_ctxt_switches:\t55\nnonvoluntary_ctxt_switches:\t{preemptions}"
        self.put("proc/thread-self/status", f"Name:\tvcpu\n{counted}")


@pytest.fixture
def host(tmp_path):
    return BusyHost(tmp_path)


def before_only(host, cpus=(1,)):
    return {finding.name: finding for finding in findings(snapshot(cpus, str(host.root)))}


def over(host, change, *, seconds=2.0, cpus=(1,)):
    """What was found over some seconds in which the host changed."""
    before = snapshot(cpus, str(host.root))
    change()
    after = replace(snapshot(cpus, str(host.root)), seconds=before.seconds + seconds)
    return {finding.name: finding for finding in findings(before, after)}


def test_a_folder_without_any_of_the_files_tells_nothing(tmp_path):
    bare = str(tmp_path / "nothing")
    there = snapshot((0, 1), bare)
    assert findings(there) == findings(there, there) == ()
    assert quietest((2, 5), there, there, bare) == 5


@pytest.mark.parametrize(
    "damaged", ["", "x", "cpu0", "cpu0 1 2 x 4 5 6 7 8", "cpux 1 2 3 4 5 6 7 8", "\xff\0:\n:: 1", "9" * 5000]
)
def test_files_that_are_not_as_they_should_be_tell_nothing(host, damaged):
    paths = (
        "proc/stat",
        "proc/interrupts",
        "proc/thread-self/stat",
        "proc/thread-self/sched",
        "proc/thread-self/status",
    )
    more = (
        "cpufreq/scaling_max_freq",
        "topology/thread_siblings_list",
        "cpuidle/state0/latency",
        "cpuidle/state0/name",
    )
    for path in (*paths, *(f"{CPU}/cpu1/{name}" for name in more)):
        host.put(path, damaged)
    assert over(host, lambda: None) == {}


def test_a_clock_that_follows_the_load(host):
    for name, text in (("governor", "powersave"), ("min_freq", "800000"), ("max_freq", "3600000")):
        host.put(f"{CPU}/cpu1/cpufreq/scaling_{name}", text)
    host.put(f"{CPU}/cpu1/cpufreq/scaling_cur_freq", "1200000")
    assert before_only(host)["frequency scaling"].size == "governor powersave, 800 to 3600 MHz, at 1200"
    found = over(host, lambda: host.put(f"{CPU}/cpu1/cpufreq/scaling_cur_freq", "3100000"))["frequency scaling"]
    assert found.size == "governor powersave, 800 to 3600 MHz, at 1200, then 3100"
    assert found.fix == "sudo cpupower frequency-set -g performance -d 3600000 -u 3600000"


def test_a_clock_that_stands_is_none(host):
    for name, text in (("governor", "performance"), ("min_freq", "3600000"), ("max_freq", "3600000")):
        host.put(f"{CPU}/cpu1/cpufreq/scaling_{name}", text)
    assert before_only(host) == {}


@pytest.mark.parametrize(("path", "on", "off"), [("intel_pstate/no_turbo", "0", "1"), ("cpufreq/boost", "1", "0")])
def test_turbo(host, path, on, off):
    host.put(f"{CPU}/{path}", on)
    assert before_only(host)["turbo"].fix == f"echo {off} | sudo tee /{CPU}/{path}"
    host.put(f"{CPU}/{path}", off)
    assert before_only(host) == {}


def test_deep_idle_states_and_how_often_they_were_entered(host):
    def states(entered, disabled="0"):
        rows = (("POLL", 0, "0", 9), ("C1", 2, "0", 100), ("C6", 133, disabled, entered), ("C1E", 10, "0", 5))
        for number, row in enumerate(rows):
            for name, value in zip(("name", "latency", "disable", "usage"), row, strict=True):
                host.put(f"{CPU}/cpu1/cpuidle/state{number}/{name}", str(value))

    states(40)
    assert before_only(host)["C-states"].size == "down to C6, 133 us to wake up from"
    assert over(host, lambda: states(47))["C-states"].size == "down to C6, 133 us to wake up from, entered 7 times"
    states(47, disabled="1")
    assert before_only(host)["C-states"].size == "down to C1E, 10 us to wake up from"


def test_the_other_thread_of_a_core(host):
    host.put(f"{CPU}/cpu1/topology/thread_siblings_list", "1,3")
    assert before_only(host)["SMT sibling"].size == "CPU 1 shares a core with CPU 3"
    host.stat(0, 0, 0, 100)
    found = over(host, lambda: host.stat(0, 0, 0, 180))
    assert found["busy SMT sibling"].size == "CPU 1 shares a core with CPU 3, busy 40% of the time"
    assert "SMT sibling" not in found
    assert over(host, lambda: host.stat(190, 190, 190, 180)) == {}  # it is there, and had nothing to do


def test_work_of_others_on_the_cpu_is_what_is_not_our_own(host):
    host.stat(0, 100)
    host.thread(ticks=50)

    def change():
        host.stat(0, 250)
        host.thread(ticks=120)

    assert over(host, change)["other work"].size == "CPU 1 did that of others 40% of the time"

    def alone():
        host.stat(500, 390)
        host.thread(ticks=260)

    assert "other work" not in over(host, alone)


def test_steal_time(host):
    host.stat(0, 0, steal=5)
    assert over(host, lambda: host.stat(0, 0, steal=25))["steal time"].size == "10% of CPU 1"


def test_a_thread_that_is_moved_and_one_that_is_preempted(host):
    host.thread(migrations=3, preemptions=2)
    found = over(host, lambda: host.thread(migrations=8, preemptions=14), cpus=(0, 1))
    assert found["migrations"].size == "5 times to another CPU"
    assert found["preemption"].size == "the thread was taken off its CPU 12 times"
    host.thread(migrations=3)
    assert over(host, lambda: host.thread(migrations=4), cpus=(1,)) == {}


def test_interrupts_are_those_on_the_cpu_by_their_source(host):
    host.put("proc/interrupts", INTERRUPTS.format(0, 50, 2000))
    found = over(host, lambda: host.put("proc/interrupts", INTERRUPTS.format(99, 90, 2500)))
    assert found["interrupts"].size == "270 a second on CPU 1: LOC 250, nvme0q1 20"
    assert over(host, lambda: host.put("proc/interrupts", INTERRUPTS.format(9_999, 90, 2510))) == {}
    moved = over(host, lambda: host.put("proc/interrupts", INTERRUPTS.format(99_999, 90, 2510)), cpus=(3,))
    assert moved == {}


def test_other_processes_with_a_vm(host):
    def process(pid, name, *targets):
        host.put(f"proc/{pid}/comm", name)
        (host.root / f"proc/{pid}/fd").mkdir()
        for number, target in enumerate(targets):
            (host.root / f"proc/{pid}/fd/{number}").symlink_to(target)

    process(os.getpid(), "self", "anon_inode:kvm-vm")
    process(2, "shell", "/dev/null", "anon_inode:[eventpoll]")
    assert before_only(host) == {}
    process(40, "qemu-system-x86", "/dev/kvm", "anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0")
    assert before_only(host)["other VMs"].size == "1: qemu-system-x86 (40)"
    gone = over(host, lambda: host.remove("proc/40/comm") or os.unlink(host.root / "proc/40/fd/1"))
    assert gone["other VMs"].size == "1: qemu-system-x86 (40)"


@pytest.mark.parametrize(
    ("text", "cpus"), [("0-2,8", (0, 1, 2, 8)), ("5", (5,)), ("", ()), ("1-", ()), ("-1", ()), ("0-99999999999", ())]
)
def test_a_list_of_cpus(text, cpus):
    assert cpu_list(text) == cpus


def test_mitigations_that_are_on(host):
    host.put(f"{CPU}/vulnerabilities/meltdown", "Mitigation: PTI")
    host.put(f"{CPU}/vulnerabilities/l1tf", "Not affected")
    host.put(f"{CPU}/vulnerabilities/retbleed", "Vulnerable")
    assert before_only(host)["mitigations"].size == "1 on: meltdown"


def test_a_finding_is_one_line_with_all_its_parts():
    assert str(Finding("turbo", "on", "the clock moves", "turn it off")) == (
        "turbo: on; the clock moves -> turn it off"
    )


def test_the_quietest_cpu_has_a_quiet_sibling_too(host):
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        host.put(f"{CPU}/cpu{cpu}/topology/thread_siblings_list", siblings)
    root = str(host.root)
    host.stat(0, 0, 0, 0)
    before = snapshot((0, 1, 2, 3), root)
    host.stat(9, 3, 0, 5)
    after = replace(snapshot((0, 1, 2, 3), root), seconds=before.seconds + 0.2)
    assert quietest((0, 1, 2, 3), before, after, root) == 3  # 8 ticks on its core, where CPU 2 sees 9
    assert quietest((0, 2), before, after, root) == 2
