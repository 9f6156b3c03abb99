"""A fleet for tests: a scheduler and workers on the loopback, each a process to be killed, and commands for it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from kvmharness.hosts import catalogue

HOST = catalogue.first().spec
# Two turns make two jobs, one a worker.
RUN = ("run", "a:3x3", "a:4x4", "--turns", "2", "--host", HOST)
_QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def python(*words, **how):
    return subprocess.Popen([sys.executable, "-P", "-m", *words], start_new_session=True, **_QUIET, **how)


class Cluster:
    """A scheduler and two workers."""

    def __init__(self, *more, scheme="tcp", host="127.0.0.1"):
        self.port, self.host, self.more = free_port(), host, more
        self.address = f"{scheme}://{host}:{self.port}"
        self.processes = {}
        for name in ("scheduler", "w1", "w2"):
            self.start(name)

    def start(self, name):
        if name == "scheduler":
            words = ("distributed.cli.dask_scheduler", "--host", self.address, "--no-dashboard", *self._options())
            environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "2"}
        else:
            words = ("kvmharness", "worker", self.address, "--name", name, "--cores", "1", *self.more)
            environment = dict(os.environ)
        self.processes[name] = python(*words, env=environment)

    def _options(self):
        if not self.more:
            return ()
        folder = self.more[1]
        return (
            "--tls-ca-file",
            f"{folder}/ca.pem",
            "--tls-cert",
            f"{folder}/cert.pem",
            "--tls-key",
            f"{folder}/key.pem",
        )

    def kill(self, name):
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def close(self):
        for process in self.processes.values():
            process.kill()
            process.wait()

    def command(self, *words, json_file, **how):
        argv = ["kvmharness", *RUN, "--fleet", self.address, "--json", str(json_file), *self.more, *words]
        return python(*argv, **how)


def plain(path):
    """A record without what two runs of it need not have in common."""
    document = json.loads(path.read_text())
    return {name: value for name, value in document.items() if name not in ("when", "command")}


def without_fleet(folder):
    path = folder / "alone.json"
    done = subprocess.run(
        [sys.executable, "-P", "-m", "kvmharness", *RUN, "--json", str(path)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode == 4:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    return plain(path)


def wait(process, seconds=300):
    """Its status, waited for that long."""
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process.returncode
