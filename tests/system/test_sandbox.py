"""What a sandbox lets out, tried from the inside: each thing is done outside of one, too, where it works."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvmharness.system import enclosed, sandbox

# To be run inside: a virtual environment's may lie where temporary files do, which are not there.
PYTHON = os.path.realpath(sys.executable)

needs_sandbox = pytest.mark.skipif(bool(sandbox.why_not()), reason=f"no sandbox here: {sandbox.why_not()}")


def sh(script, *writable, readable=(), within=True, **more):
    command = [*(sandbox.prefix(writable, readable) if within else ()), "/bin/sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **more)


@pytest.fixture
def outside(tmp_path):
    """A folder of this user's that is no sandbox's, not where temporary files go."""
    path = Path.home() / f".kvmharness-test-{os.getpid()}-{tmp_path.name}"
    path.mkdir()
    yield path
    for left in path.iterdir():
        left.unlink()
    path.rmdir()


@needs_sandbox
def test_files_are_written_to_the_given_folders_only(tmp_path, outside):
    (tmp_path / "in").mkdir()
    script = f"echo 1 >{tmp_path}/in/made; echo 1 >{outside}/made; echo 1 >/tmp/{tmp_path.name}-made; echo said"
    for within in (True, False):
        done = sh(script, tmp_path / "in", within=within, cwd=tmp_path / "in")
        assert done.stdout == "said\n"
        assert (tmp_path / "in" / "made").exists()
        assert (outside / "made").exists() != within
        assert Path("/tmp", f"{tmp_path.name}-made").exists() != within
    Path("/tmp", f"{tmp_path.name}-made").unlink()


@needs_sandbox
def test_there_is_no_network(tmp_path):
    connect = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 2)"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        command = [PYTHON, "-I", "-S", "-c", connect, str(server.getsockname()[1])]
        assert subprocess.run([*sandbox.prefix([tmp_path]), *command], capture_output=True, check=False).returncode == 1
        with pytest.raises(TimeoutError):
            server.accept()
        assert subprocess.run(command, check=False).returncode == 0
        server.accept()[0].close()


@needs_sandbox
def test_no_socket_of_another_program_can_be_reached(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        command = [PYTHON, "-I", "-S", "-c", connect, str(tmp_path / "socket")]
        (tmp_path / "in").mkdir()
        inside = [*sandbox.prefix([tmp_path / "in"]), *command]
        assert subprocess.run(inside, capture_output=True, check=False).returncode == 1
        assert subprocess.run(command, check=False).returncode == 0


@needs_sandbox
def test_there_are_no_privileges_to_have_or_to_get(tmp_path):
    status = dict(line.split(":\t") for line in sh("cat /proc/self/status", tmp_path).stdout.splitlines())
    sets = {value for name, value in status.items() if name.startswith("Cap")}
    assert len(sets) == 1
    assert int(sets.pop(), 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert sh("mount -o remount,bind,rw / || unshare --user --map-root-user --mount true", tmp_path).returncode


@needs_sandbox
def test_kernel_settings_and_devices_are_out_of_reach(tmp_path):
    setting = Path("/proc/sys/vm/swappiness")
    assert sh(f"cat {setting} >{setting}", tmp_path).returncode
    names = ["fd", "full", "null", "random", "stderr", "stdin", "stdout", "urandom", "zero"]
    assert sh("ls /dev", tmp_path).stdout.split() == names
    assert sh("echo x >/dev/null && head -c 4 /dev/zero | wc -c", tmp_path).stdout == "4\n"


@needs_sandbox
def test_what_is_to_be_read_is_there_and_cannot_be_written_to(tmp_path):
    for name in ("base", "base/in", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(f"{name}\n")
    script = f"cd {tmp_path}; cat base/file base/in/file other/file; echo 1 >base/in/file; echo 2 >base/file"
    done = sh(script, tmp_path / "base" / "in", readable=[tmp_path / "base"])
    assert done.stdout == "base\nbase/in\n"
    assert (tmp_path / "base" / "in" / "file").read_text() == "1\n"
    assert (tmp_path / "base" / "file").read_text() == "base\n"


@needs_sandbox
def test_processes_of_others_are_not_seen(tmp_path):
    assert sh(f"kill -0 {os.getpid()}", tmp_path).returncode
    assert sh(f"kill -0 {os.getpid()}", within=False).returncode == 0


@needs_sandbox
def test_a_file_has_a_largest_size(tmp_path, monkeypatch):
    limit = enclosed.LIMITS[enclosed.resource.RLIMIT_FSIZE]
    assert sh(f"truncate -s {limit} file && ! truncate -s {limit + 1} file", tmp_path, cwd=tmp_path).returncode == 0


@needs_sandbox
def test_the_status_is_the_commands(tmp_path):
    assert sh("exit 7", tmp_path).returncode == 7


def processes_that_say(word):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # gone meanwhile
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("where", ["sandbox", "none"])
def test_all_of_it_ends_when_whoever_started_it_is_killed(tmp_path, where):
    if where == "sandbox" and sandbox.why_not():
        pytest.skip(f"no sandbox here: {sandbox.why_not()}")
    word = f"{os.getpid()}.125"  # seconds to sleep, such as nobody else sleeps
    script = f"setsid sleep {word} & (setsid setsid sleep {word} &); sleep {word}"
    starts = (
        "import subprocess, sys; from pathlib import Path; from kvmharness.system import sandbox;"
        "sandbox.why_not = sandbox.why_not if sys.argv[3] == 'sandbox' else lambda: 'tried without';"
        "subprocess.run([*sandbox.prefix([Path(sys.argv[1])]), '/bin/sh', '-c', sys.argv[2]])"
    )
    with subprocess.Popen([sys.executable, "-c", starts, str(tmp_path), script, where]) as starter:
        deadline = time.monotonic() + 20
        while len(processes_that_say(b"sleep\0" + word.encode())) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        starter.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while processes_that_say(word.encode()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_namespaces_there_is_no_sandbox_and_it_says_why(tmp_path, monkeypatch):
    fake = tmp_path / "unshare"
    fake.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert sandbox.why_not() == "unshare failed: Operation not permitted"
    assert "unshare" not in sandbox.prefix([tmp_path])
    assert sh("echo said; exit 7").stdout == "said\n"
    monkeypatch.setenv("PATH", "/nowhere")
    assert sandbox.why_not() == "unshare (package util-linux) is not installed"


def test_it_does_not_matter_where_one_stands(tmp_path, monkeypatch):
    """Not even in a folder that is not there inside, as those for temporary files are."""
    before = sandbox.why_not()
    monkeypatch.chdir(tmp_path)
    sandbox._tried.cache_clear()
    assert sandbox.why_not() == before
    if not before:
        assert sh("pwd").stdout == "/\n"
