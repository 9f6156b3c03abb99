"""The machine here that stands for an emulated host somewhere in a fleet."""

from collections.abc import Callable
from dataclasses import dataclass

from kvmharness.errors import LostMachineError
from kvmharness.fleet.answers import Answer
from kvmharness.fleet.wire import Files, Order, WireError, order_of
from kvmharness.lab.job import Job, OnEvent
from kvmharness.lab.jobrun import JobRun
from kvmharness.lab.kernels.build import Kernel
from kvmharness.lab.machines.emulator import EmulatedMachine, marked


@dataclass(frozen=True, slots=True)
class FleetMachine:
    """An emulated host somewhere in a fleet (see :class:`kvmharness.lab.job.Machine`).

    Attributes:
        do: has a job done there.
        kernel: what is booted.
        here: the same machine, were it on this one.
        snapshot: whether it may be restored.
        description: as the workers say.
        at_once: how many of them the fleet can have at work.
    """

    do: Callable[[Order, Files], Answer]
    kernel: Kernel
    here: EmulatedMachine
    snapshot: bool
    description: str
    at_once: int

    @property
    def identity(self) -> str:
        """That of the same machine here."""
        return self.here.identity_as(self.description)

    @property
    def watch(self) -> None:
        """Nothing disturbs it."""

    def run(self, job: Job, on_event: OnEvent) -> None:
        """See :class:`Machine`; events come when the job is done, in the thread that asked for it."""
        order, files = order_of(job, self.kernel, self.here.host.name, snapshot=self.snapshot)
        try:
            answer = self.do(order, files)
        except WireError as error:
            raise LostMachineError(str(error), error.hint) from error
        replay(answer, JobRun(marked(job), on_event))


def replay(answer: Answer, run: JobRun) -> None:
    """Hands on what a host under test said elsewhere, held against its job as if it were here.

    Raises:
        As :meth:`kvmharness.lab.job.Machine.run`.
    """
    for event in answer.events:
        run.take(event.encode())
    if answer.ended is not None:
        raise answer.ended.error(answer.worker)
    if not run.complete:
        raise LostMachineError(f"{answer.worker}: the job was not done to its end; {run.progress}")
