"""SIGKILL at random moments: after the next start of anything nothing is left, and the run that follows is right."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvmharness.hosts import catalogue
from kvmharness.lab.kernels import build
from kvmharness.lab.kernels.source import debian

pytestmark = pytest.mark.needs("emulated_vmx")

HOST = catalogue.first().spec
RUN = ("run", "a:3x3", "a:4x4", "--host", HOST)
EXAMPLES = Path(__file__).parents[1] / "examples"
# With how long it takes about, in seconds.
COMMANDS = {
    "validate": (("kvmharness", "validate", "fast-cr3-switch", "a:3x3", "--host", HOST, "--turns", "1"), 20.0),
    "run": (("kvmharness", *RUN), 8.0),
    "kernel": (("kvmharness", "lab", "build"), 30.0),
    "pytest": (("pytest", "-p", "no:cacheprovider", "--kvm-host", HOST, str(EXAMPLES)), 10.0),
}
KILLS = 25  # of each
_GONE_S = 5.0


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A cache with nothing but the kernel in it, a folder for temporary files, and a mark on all processes."""
    made = build.kernel(debian()).tree.parent
    kernels = tmp_path / "cache" / "kvmharness" / "kernels"
    kernels.mkdir(parents=True)
    for folder in (tmp_path / "cache/kvmharness", kernels):
        folder.chmod(0o700)
    (kernels / made.name).symlink_to(made)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    return tmp_path


def python(*words):
    return [sys.executable, "-m", *words]


def of_the_kernel():
    """What a command may have left in this machine's kernel: mounts, and what is traced."""
    traced = [
        Path("/sys/kernel/tracing", name) for name in ("kprobe_events", "uprobe_events", "set_event", "tracing_on")
    ]
    state = [path.read_text() for path in (Path("/proc/self/mountinfo"), *traced) if os.access(path, os.R_OK)]
    return [*state, sorted(Path("/sys/kernel/tracing/instances").glob("*"))]


def marked(mark):
    """The processes that descend from one which had *mark* in its environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes():
                found.append((path.parent / "cmdline").read_bytes())
        except OSError:  # gone, or not ours
            continue
    return found


def left(places):
    hidden = [path for path in places.glob("*/kvmharness/*/.*") if path.name.startswith((".making-", ".lock-"))]
    return [*hidden, *places.glob("*/kvmharness/.used-*"), *(places / "temporary").iterdir()]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_leaves_nothing_and_the_next_one_is_right(places, name):
    chance = random.Random(name)
    words, takes_s = COMMANDS[name]
    environment = dict(os.environ)
    if name == "kernel":
        environment["XDG_CACHE_HOME"] = str(places / "bare")
    before = of_the_kernel()
    for number in range(KILLS):
        mark = f"kill-{name}-{number}-{os.getpid()}"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(python(*words), env={**environment, "KILLED_AS": mark}, **quiet) as process:
            try:
                process.wait(chance.uniform(0.1, takes_s))
            except subprocess.TimeoutExpired:
                process.kill()
        deadline = time.monotonic() + _GONE_S
        while (found := marked(mark.encode())) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not found
        # Any command that starts at all will do.
        subprocess.run(python("kvmharness", "asm", "/nowhere"), env=environment, check=False, **quiet)
        assert not left(places)
    assert of_the_kernel() == before
    done = subprocess.run(
        python("kvmharness", *RUN, "--json", "record.json"), cwd=places, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((places / "record.json").read_text())["results"]
    assert len(results) == 2
