"""Machines that the plugin is made to believe in, and an emulated host that is only another process."""

import sys
from pathlib import Path

import pytest

from kvmharness.errors import LostMachineError
from kvmharness.hosts.facts import facts
from kvmharness.lab.job import HangError
from kvmharness.lab.kernels import build
from kvmharness.lab.machines.supervisor import supervise
from kvmharness.lab.steps import encode

# Imported here, for a session within the session forgets what it imports first.
from kvmharness.testing import needs
from kvmharness.testing.emulated import loop
from tests.hostfiles import HostFiles

PANIC_LINE = "Kernel panic - not syncing: sysrq triggered crash"
# The emulator: the agent is its child. Exit status 86 of that is a panic.
EMULATOR = """
import subprocess, sys
status = subprocess.call([sys.executable, "-c", *sys.argv[1:]])
with open("console", "w") as console:
    if status == 86:
        console.write("[    1.000000] working\\n" + PANIC + "\\n---[ end Kernel panic ]---\\n")
sys.exit(status)
"""
# The agent: the executor that is always there, on a machine that is made of files.
AGENT = """
import os, sys
from pathlib import Path
root, host, project = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
sys.path.insert(0, project)
import kvmharness.testing.needs as needs
from kvmharness.lab.inside.executor import Executor
from kvmharness.lab.inside.frames import frame
from tests.hostfiles import HostFiles
from tests.machines import FakeLoader
found = needs.facts
files = HostFiles(root / "machine")
files.put("proc/cmdline", f"kvmharness.lab={host}")
needs.facts = lambda: found(str(files.root))
class Loader(FakeLoader):
    def load(self, step):
        for name, value in step.params.items():
            files.put("sys/module/" + name.replace(".", "/parameters/"), value)
        return super().load(step)
port = os.dup(1)  # tests may capture standard output
os.dup2(2, 1)
inside, outside = f"{root}/suite".encode(), b"/suite"
def send(payload):
    os.write(port, frame(payload.replace(inside, outside)))
job = (root / "job.json").read_bytes().replace(b'"' + outside + b'"', b'"' + inside + b'"')
Executor(Loader(), send, None, BaseException).run(job)
"""


class ProcessMachine:
    """An emulated host whose emulator is a process: exit status 86 is a panic, 87 a hang."""

    description = "a process"

    def __init__(self, folder, host, boots):
        self.folder, self.host, self.boots = folder, host, boots

    def run(self, job, on_event):
        self.boots.append((self.host, job))
        root = self.folder / f"boot{len(self.boots)}"
        for place, source in {**job.files, "job.json": encode(job.steps)}.items():
            path = root / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source if isinstance(source, bytes) else source.read_bytes())
        project = str(Path(__file__).parents[2])
        emulator = EMULATOR.replace("PANIC", repr(PANIC_LINE))
        try:
            supervise(
                [sys.executable, "-c", emulator, AGENT, str(root), self.host, project],
                job,
                on_event,
                name="the process",
                console_path=root / "console",
                folder=root,
            )
        except LostMachineError as error:
            if "(status 87)" not in str(error):
                raise
            raise HangError("silent for 60 s, stopped", console=("[    1.000000] the last line",)) from error


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
