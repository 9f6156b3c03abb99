"""What watches over a command: that it ends all of it, and what it may take."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvmharness.system import sandbox, watched

needs_sandbox = pytest.mark.skipif(bool(sandbox.why_not()), reason=f"no sandbox here: {sandbox.why_not()}")


UNSHARE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")


def run(*command, before=(), spoiled="", folder="/"):
    """Watches *command*, after the lines *spoiled* that change the limits; *before* is what all of it begins with."""
    script = f"import sys; sys.path.insert(0, {str(Path(watched.__file__).parent)!r}); import watched\n{spoiled}\n"
    script += "sys.exit(watched.main(sys.argv[1:]))"
    argv = [*before, sys.executable, "-I", "-S", "-c", script, *command]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(("command", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("true", 0)])
def test_it_ends_as_the_command_does(command, status):
    assert run("/bin/sh", "-c", command).returncode == status


def test_a_command_that_is_not_there_is_said_in_a_line():
    done = run("/nowhere/make")
    assert (done.returncode, done.stderr) == (127, "/nowhere/make: No such file or directory\n")


def test_what_the_command_leaves_behind_ends_with_it():
    began = time.monotonic()
    run("/bin/sh", "-c", "setsid sleep 100.25 & (setsid setsid sleep 100.25 &) & sleep 0.1")
    assert time.monotonic() - began < 30
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if said(path) == b"sleep\x00100.25\x00"]


def said(path):
    try:
        return path.read_bytes()
    except OSError:  # gone meanwhile
        return b""


@needs_sandbox
@pytest.mark.parametrize(
    ("limit", "command", "what"),
    [
        # As root, too, which no limit of the kernel's on its processes would hold.
        ("PROCESSES = 40", "f() { sleep 30 & f; }; f", "more than 40 processes"),
        (
            "MEMORY = 100 << 20",
            f"{sys.executable} -c 'b = bytearray(200 << 20); input()'; sleep 30",
            "more than 100 MiB",
        ),
        ("DISK_LEFT = 1 << 60", "sleep 1; sleep 30", None),
    ],
)
def test_what_takes_too_much_is_ended_and_says_what(tmp_path, limit, command, what):
    began = time.monotonic()
    spoiled = f"watched.{limit}"
    if what is None:  # the disk: as if the half of it was gone in a moment
        spoiled += "\nfree = watched._free; seen = []\n"
        spoiled += "watched._free = lambda folder: free(folder) // (1 if not seen and not seen.append(1) else 3)"
        what = "left on the disk"
    command = f"exec </dev/zero; {command}"
    done = run("/bin/sh", "-c", command, before=UNSHARE, spoiled=spoiled, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: all processes were stopped: ")
    assert what in done.stderr
    assert time.monotonic() - began < 25


@needs_sandbox
def test_what_keeps_to_the_limits_is_left_alone():
    assert run("/bin/sh", "-c", "sleep 1; echo done", before=UNSHARE).stdout == "done\n"
