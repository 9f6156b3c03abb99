"""Runs inside the emulated host as /init's child: does the job that the image holds, or one that it waits for."""

import os

from kvmharness.lab.inside.executor import Executor
from kvmharness.lab.inside.frames import frame
from kvmharness.lab.inside.kernellog import KernelLog
from kvmharness.lab.inside.modules import BusyboxLoader
from kvmharness.lab.inside.port import Port
from kvmharness.lab.inside.waiting import WAITING_PATH, wait

JOB_PATH, NONCE_PATH = "/job/job.json", "/job/nonce"


def main() -> None:
    """Does the job at :data:`JOB_PATH`, tells the nonce at :data:`NONCE_PATH`, and sends its events over the port."""
    port = Port()
    if os.path.exists(WAITING_PATH):
        wait(port)
    executor = Executor(BusyboxLoader(), lambda event: port.write(frame(event)), KernelLog(), BaseException)
    with open(JOB_PATH, "rb") as file, open(NONCE_PATH, "rb") as nonce:
        executor.run(file.read(), nonce.read().decode())
