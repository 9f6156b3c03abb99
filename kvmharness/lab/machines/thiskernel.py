"""This machine as it runs: a job in this process, with the same contract as in an emulated host."""

import os
from contextlib import ExitStack

from kvmharness.lab.inside.executor import Executor
from kvmharness.lab.inside.kernellog import KernelLog
from kvmharness.lab.inside.modules import Loader
from kvmharness.lab.job import Job, OnEvent
from kvmharness.lab.jobrun import JobRun
from kvmharness.lab.steps import encode
from kvmharness.measure.watch import Watch


class ThisKernel:
    """The running kernel with the modules that it has (see :class:`kvmharness.lab.job.Machine`).

    A job that loads or unloads modules fails on it.
    """

    at_once = 1
    watch: Watch | None = None

    @property
    def description(self) -> str:
        """For records and messages."""
        return f"this machine ({os.uname().nodename})"

    @property
    def identity(self) -> str:
        """Nobody knows what else changes on this machine."""
        return ""

    def run(self, job: Job, on_event: OnEvent) -> None:
        """Does the steps."""
        do_here(job, on_event, Loader())


def do_here(job: Job, on_event: OnEvent, loader: Loader) -> None:
    """Does a job's steps in this process; its files stay where they are, and nobody looks at the clock.

    Args:
        loader: what loading and unloading means here.

    Raises:
        StepFailedError: a required step failed.
        KeyboardInterrupt, SystemExit: as they come.
    """
    run = JobRun(job, on_event)
    with ExitStack() as stack:
        log = _kernel_log()
        if log is not None:
            stack.callback(log.close)
        Executor(loader, run.take, log).run(encode(job.steps), job.nonce)


def _kernel_log() -> KernelLog | None:
    """The kernel's log from now on; None where it is not for us to read."""
    try:
        return KernelLog()
    except OSError:
        return None
