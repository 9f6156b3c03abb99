"""The emulated host as the command line sees it: jobs and their events."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kvmharness.errors import ExitCode, KvmHarnessError
from kvmharness.lab.job import Event, Job
from kvmharness.lab.kernels.build import Kernel


class StepError(KvmHarnessError):
    """A step of a job failed inside the emulated host; it says there what its exit code is out here."""

    def __init__(self, event: Event) -> None:
        super().__init__(f"in the emulated host: {event.get('message')}", str(event.get("hint") or ""))
        code = event.get("exit_code")
        self.exit_code = ExitCode(code) if isinstance(code, int) else ExitCode.LOST
        self.traceback = event.get("traceback")
        if self.traceback:
            self.args = (f"in the emulated host, and a bug: {event.get('type')}\n{self.traceback}",)


@dataclass(slots=True)
class Listener:
    """Takes a job's events; what is not asked for is dropped.

    Attributes:
        data: takes what a called function emits.
        output: takes what a step prints.
        begun: takes the kind of each step as it begins, and "hello" when the agent is up.
        results: of the steps that ended well, by their number.
        dmesg: what the kernel's log gained.
    """

    data: Callable[[object], None] = lambda data: None
    output: Callable[[str], None] = lambda text: None
    begun: Callable[[str], None] = lambda kind: None
    results: dict[int, object] = field(default_factory=dict)
    dmesg: list[str] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        """Takes one event.

        Raises:
            StepError: it says that a step failed.
        """
        match event.get("event"):
            case "hello":
                self.begun("hello")
            case "begin":
                self.begun(str(event.get("do")))
            case "data":
                self.data(event.get("data"))
            case "output":
                self.output(str(event.get("text")))
            case "dmesg":
                lines = event.get("lines")
                self.dmesg += map(str, lines if isinstance(lines, list) else ())
            case "end":
                self.results[_number(event)] = event.get("result")
            case "error":
                raise StepError(event)


def _number(event: Event) -> int:
    step = event.get("step")
    return step if isinstance(step, int) else -1


def job(steps: tuple[Mapping[str, object], ...], kernel: Kernel, parameters: Mapping[str, str], **more: object) -> Job:
    """A job that loads the kernel's own KVM modules first."""
    load = {"do": "load", "variant": "host", "params": dict(parameters)}
    return Job((load, *steps), modules={"host": kernel.modules}, **more)  # type: ignore[arg-type]
