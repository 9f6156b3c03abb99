"""A job, the machines that do it, and the ways in which that goes wrong."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from kvmharness.errors import ExitCode, KvmHarnessError, LostMachineError, UsageError
from kvmharness.lab.events import Event, Failed
from kvmharness.lab.steps import Call, Exec, Load, Step, kind_of
from kvmharness.measure.watch import Watch

OnEvent = Callable[[Event], None]

# What /init says on the console when the agent is gone. After a complete job nobody is there any more to read it.
AGENT_ENDED = "kvmharness: the agent ended"


class KernelPanicError(LostMachineError):
    """The emulated host's kernel panicked; ``console`` ends with what it said."""


class HangError(LostMachineError):
    """The job was not done when its time was up; the emulator has been stopped."""


class ProtocolError(LostMachineError):
    """What a host under test said about a job cannot be: an event of a wrong shape or at a wrong time, or one missing.

    Its kernel or its emulator is broken in a way that no result of it survives.
    """

    def __init__(self, what: str, progress: str = "") -> None:
        super().__init__(
            f"the host under test sent what does not belong to its job: {what}{progress and f'; {progress}'}",
            "Nothing of this run counts. Run it again; if it stays, the kernel under test damages memory.",
        )


class StepFailedError(KvmHarnessError):
    """A step that the job needs failed in the host under test.

    Attributes:
        step: the step.
        failed: the event that says so; the error's exit code and hint are its own.
    """

    def __init__(self, step: Step, failed: Failed) -> None:
        what = failed.message
        if failed.traceback:
            what = f"a bug: {failed.type}: {what}\n{failed.traceback}"
        super().__init__(f"in the host under test, {kind_of(step)} failed: {what}", failed.hint)
        self.exit_code = ExitCode.LOST if failed.exit_code is None else ExitCode(failed.exit_code)
        self.step, self.failed = step, failed


@dataclass(frozen=True, slots=True)
class Job:
    """What a machine is to do, in an emulated host in one boot.

    Attributes:
        steps: done in order; one that fails ends the job if it is required.
        files: what the image holds besides, by path inside; a Path is read outside.
        modules: the folder of each variant: kvm.ko, kvm-intel.ko, kvm-amd.ko and what else they depend on.
        timeout_s: wall seconds for the whole job, the boot included.
        silence_s: seconds without any event, after which it counts as hanging too, once it is up; None for no such
            limit. Where the host is emulated, of the emulator's processor time.
        nonce: what an emulated host must give back at its beginning, so that nothing that was said about another job,
            or kept in a saved host, passes for this one; a machine makes it of the job.

    Raises:
        UsageError: a step cannot work: it loads a variant that is not among the modules, or names nothing to do.
    """

    steps: tuple[Step, ...]
    files: Mapping[str, Path | bytes] = field(default_factory=dict)
    modules: Mapping[str, Path] = field(default_factory=dict)
    timeout_s: float = 300.0
    silence_s: float | None = None
    nonce: str = ""

    def __post_init__(self) -> None:
        for number, step in enumerate(self.steps):
            match step:
                case Load(variant=variant) if variant not in self.modules:
                    known = ", ".join(self.modules) or "none"
                    raise UsageError(f"step {number} loads variant {variant!r}; the job holds: {known}")
                case Call(function=function) if not all(function.partition(":")):
                    raise UsageError(f"step {number} calls {function!r}, which is not of the form module:name")
                case Exec(argv=()):
                    raise UsageError(f"step {number} runs a program, but does not say which")


class Machine(Protocol):
    """A host that does jobs: an emulated one, or this machine.

    Attributes:
        description: emulator, its version, CPU model: for records and error messages.
        identity: equal for two machines on which the same job gives the same; empty where that cannot be said.
        at_once: how many jobs may be done at the same time, each by a machine of its own; 1 where there is only one.
        watch: what is to be seen to on a real host while a run's jobs are done; None in an emulated one, which nothing
            disturbs.
    """

    @property
    def description(self) -> str:
        """See the class."""
        ...

    @property
    def identity(self) -> str:
        """See the class."""
        ...

    @property
    def at_once(self) -> int:
        """See the class."""
        ...

    @property
    def watch(self) -> Watch | None:
        """See the class."""
        ...

    def run(self, job: Job, on_event: OnEvent) -> None:
        """Does the job's steps; an emulated host is booted before and powered off after them.

        Args:
            job: the steps and what they need.
            on_event: takes each event as it arrives, in order; every one belongs to the job, in shape and order (see
                :class:`kvmharness.lab.jobrun.JobRun`). A ``UsageError`` that it raises is about what the event says,
                and comes out as ProtocolError.

        Raises:
            StepFailedError: a required step failed; its event was given to *on_event* before.
            ProtocolError: an event does not belong to the job, or one is missing.
            KernelPanicError, HangError, LostMachineError: with the console's last lines.
            MissingToolError: the emulator or another tool is not installed.
        """
        ...
