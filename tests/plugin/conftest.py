"""Machines that the plugin is made to believe in, and an emulated host that is only another process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kvmharness.hosts.facts import facts
from kvmharness.lab.job import HangError, KernelPanicError
from kvmharness.lab.kernels import build

# Imported here, for a session within the session forgets what it imports first.
from kvmharness.testing import needs
from kvmharness.testing.emulated import loop
from tests.hostfiles import HostFiles

PANIC_LINE = "Kernel panic - not syncing: sysrq triggered crash"
# Lives as the agent does: does the call steps of a job, and prints every event as a line.
AGENT = """
import json, sys
from pathlib import Path
job, root, host = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
sys.path.insert(0, sys.argv[4])
from dataclasses import replace
import kvmharness.testing.needs as needs
found = needs.facts
from tests.hostfiles import HostFiles
files = HostFiles(Path(root) / "machine")
files.put("proc/cmdline", f"kvmharness.lab={host}")
needs.facts = lambda: found(str(files.root))
out = sys.stdout
def send(**event):
    print(json.dumps(event).replace(f"{root}/suite", "/suite"), file=out, flush=True)
for number, step in enumerate(job):
    send(step=number, event="begin", do=step["do"])
    if step["do"] == "load":
        for name, value in step["params"].items():
            files.put("sys/module/" + name.replace(".", "/parameters/"), value)
    if step["do"] == "call":
        from kvmharness.testing.emulated.standins import run
        sys.stdout = sys.stderr
        step["args"]["folder"] = root + step["args"]["folder"]
        try:
            run(lambda data: send(step=number, event="data", data=data), **step["args"])
        except BaseException as error:
            send(step=number, event="error", message=str(error), hint="", type=type(error).__name__)
        sys.stdout = out
    send(step=number, event="end")
"""


class ProcessMachine:
    """An emulated host that is a process: exit status 86 is a panic, 87 a hang."""

    description = "a process"

    def __init__(self, folder, host, boots):
        self.folder, self.host, self.boots = folder, host, boots

    def run(self, job, on_event):
        job.check()
        self.boots.append((self.host, job))
        root = self.folder / f"boot{len(self.boots)}"
        for place, source in job.files.items():
            path = root / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source if isinstance(source, bytes) else source.read_bytes())
        project = str(Path(__file__).parents[2])
        command = [sys.executable, "-c", AGENT, json.dumps(job.steps), str(root), self.host, project]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            for line in process.stdout:
                on_event(json.loads(line))
            status = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        if status == 86:
            raise KernelPanicError("the kernel panicked", console=("[    1.000000] working", PANIC_LINE))
        if status == 87:
            raise HangError("silent for 60 s, stopped", console=("[    1.000000] the last line",))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """The files of the machine that the plugin takes this one for: by default one with everything."""
    files = HostFiles(tmp_path / "machine")
    monkeypatch.setattr(needs, "facts", lambda: facts(str(files.root)))
    return files


@pytest.fixture
def poor(machine):
    """A machine without nesting, without /dev/kvm."""
    machine.remove("dev/kvm")
    machine.put("sys/module/kvm_intel/parameters/nested", "N")
    return machine


@pytest.fixture
def boots(poor, tmp_path, monkeypatch):
    """Emulated hosts are processes; the list of their boots: (host, job)."""
    found = []
    kernel = build.Kernel(tmp_path, tmp_path)
    monkeypatch.setattr(loop.build, "kernel", lambda **options: kernel)
    monkeypatch.setattr(loop, "emulated_host", lambda host, kernel, **more: ProcessMachine(tmp_path, host, found))
    return found


@pytest.fixture
def run(pytester):
    """Runs the suite with the plugin and without what else is installed."""
    pytester.makeini("[pytest]\naddopts = -p no:timeout -p no:hypothesispytest\n")
    return lambda *arguments: pytester.runpytest_inprocess("--strict-markers", "-p", "no:cacheprovider", *arguments)
