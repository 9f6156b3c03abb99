"""Snapshots at length: on every CPU model all restores of one give the same, and on one of each emulator fifty do."""

import hashlib

import pytest

from kvmharness.hosts import catalogue
from kvmharness.lab.job import Job
from kvmharness.lab.kernels import build
from kvmharness.lab.steps import Exec
from kvmharness.validation.snapshots import emulated_host
from tests.machines import events

RESTORES = 50
# Random numbers of the kernel, and what its clocks and counters say.
PROGRAM = """
cat /proc/sys/kernel/random/uuid /proc/uptime /proc/interrupts /proc/vmstat
dmesg | tail -5
"""
HOSTS = [
    pytest.param(host.name, marks=pytest.mark.needs(f"emulated_{host.vendor}"))
    for host in catalogue.HOSTS
    if host.name != "svm:epyc-nonpt"
]


@pytest.fixture(scope="module")
def kernel():
    return build.kernel()


def never(line):
    pytest.fail(f"no snapshot: {line}")


def restored(host, kernel):
    emulated_host(host, kernel).run(Job((), timeout_s=120), lambda event: None)  # made here, if there is none
    return emulated_host(host, kernel, say=never)


@pytest.mark.parametrize("host", HOSTS)
def test_every_restore_gives_the_same_to_the_byte(host, kernel):
    machine = restored(host, kernel)
    job = Job((Exec(("/bin/sh", "-c", PROGRAM)),), timeout_s=60)
    times = RESTORES if host in ("vmx:skylake", "svm:epyc") else 5
    seen = [hashlib.sha256(repr(events(machine, job)).encode()).hexdigest() for _ in range(times)]
    assert len(set(seen)) == 1, f"{len(set(seen))} different outputs of {times} restores"
