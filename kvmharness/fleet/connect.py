"""Connects to a fleet: one that is there, or one of processes on this machine that is started for one run."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from kvmharness.errors import HostRequirementError
from kvmharness.fleet.place import LOCAL, Scheduler
from kvmharness.system.programs import die_with_parent

if TYPE_CHECKING:
    from kvmharness.fleet.client import Fleet


@contextmanager
def local_fleet() -> "Iterator[Fleet]":
    """A scheduler in this process, and beside it as many workers as there are cores, of one emulated host each.

    Raises:
        HostRequirementError: Dask is not installed.
    """
    from distributed.deploy.local import LocalCluster

    from kvmharness.fleet.client import Fleet

    count = len(os.sched_getaffinity(0))
    with LocalCluster(
        n_workers=0,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=50,
        scheduler_kwargs={"allowed_failures": 2},
    ) as cluster:
        scheduler = Scheduler(cluster.scheduler_address)
        processes = [_worker(scheduler.address, f"local-{number}") for number in range(1, count + 1)]
        try:
            fleet = Fleet(scheduler)
            try:
                fleet.wait_for(count)
                yield fleet
            finally:
                fleet.close()
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                process.kill()
                process.wait()


def _worker(address: str, name: str) -> "subprocess.Popen[bytes]":
    argv = [
        *die_with_parent(),
        sys.executable,
        "-P",
        "-m",
        "kvmharness",
        "worker",
        address,
        "--name",
        name,
        "--cores",
        "1",
    ]
    return subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


@contextmanager
def connected(text: str, tls: Path | None = None) -> "Iterator[Fleet]":
    """The fleet at an address, or the one of :data:`LOCAL`, until the end of the context.

    Raises:
        UsageError: not an address, or one of another machine without certificates.
        HostRequirementError: Dask is not installed.
        LostMachineError: there is no scheduler.
    """
    if find_spec("distributed") is None:
        raise HostRequirementError("a fleet takes Dask, which is not installed", "pip install kvmharness[fleet]")
    from kvmharness.fleet.client import Fleet

    if text == LOCAL:
        with local_fleet() as fleet:
            yield fleet
        return
    fleet = Fleet(Scheduler(text, tls))
    try:
        yield fleet
    finally:
        fleet.close()
