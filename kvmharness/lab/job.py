"""Every emulated host, whichever emulator it is: run a job, report its events, end well or in a typed error."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from kvmharness.errors import LostMachineError, UsageError

Event = dict[str, object]
OnEvent = Callable[[Event], None]

# What /init says on the console when the agent is gone. After a complete job nobody is there any more to read it.
AGENT_ENDED = "kvmharness: the agent ended"

STEP_KINDS = frozenset({"load", "unload", "call", "exec"})


class KernelPanicError(LostMachineError):
    """The emulated host's kernel panicked; ``console`` ends with what it said."""


class HangError(LostMachineError):
    """The job was not done when its time was up; the emulator has been stopped."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one boot of an emulated host is to do.

    Attributes:
        steps: done in order, one dict each:
            ``{"do": "load", "variant": NAME, "params": {"kvm.tdp_mmu": "Y", ...}}`` loads a variant's modules,
            nested=1; ``{"do": "unload"}``;
            ``{"do": "call", "function": "package.module:name", "args": {...}}`` calls it with an ``emit`` and the args;
            ``{"do": "exec", "argv": [...], "timeout_s": ...}`` runs a program.
            ``"required": True`` on a step ends the job when it fails; load and unload are always required.
        files: what the image holds besides, by path inside; a Path is read outside.
        modules: the folder of each variant: kvm.ko, kvm-intel.ko, kvm-amd.ko and what else they depend on.
        timeout_s: wall seconds for the whole job, the boot included.
        silence_s: wall seconds without any event, after which it counts as hanging too; None for no such limit.
    """

    steps: tuple[Mapping[str, object], ...]
    files: Mapping[str, Path | bytes] = field(default_factory=dict)
    modules: Mapping[str, Path] = field(default_factory=dict)
    timeout_s: float = 300.0
    silence_s: float | None = None

    def check(self) -> None:
        """Refuse a job that cannot work before anything is booted.

        Raises:
            UsageError: an unknown kind of step, a step without what it needs, or a variant that is not among the
            modules.
        """
        needed = {"load": "variant", "call": "function", "exec": "argv"}
        for number, step in enumerate(self.steps):
            kind = step.get("do")
            if kind not in STEP_KINDS:
                raise UsageError(f"step {number}: {kind!r} is not one of {', '.join(sorted(STEP_KINDS))}")
            key = needed.get(str(kind))
            if key is not None and not step.get(key):
                raise UsageError(f"step {number} ({kind}) has no {key!r}")
            if kind == "load" and step["variant"] not in self.modules:
                known = ", ".join(self.modules) or "none"
                raise UsageError(f"step {number} loads variant {step['variant']!r}; the job holds: {known}")


class Machine(Protocol):
    """An emulated host.

    Attributes:
        description: emulator, its version, CPU model: for records and error messages.
        identity: equal for two machines on which the same job gives the same; empty where that cannot be said.
    """

    @property
    def description(self) -> str:
        """See the class."""
        ...

    @property
    def identity(self) -> str:
        """See the class."""
        ...

    def run(self, job: Job, on_event: OnEvent) -> None:
        """Boot once, do the job's steps, power off.

        Args:
            job: the steps and what they need.
            on_event: takes each event as it arrives, in order.

        Raises:
            KernelPanicError, HangError, LostMachineError: with the console's last lines.
            MissingToolError: the emulator or another tool is not installed.
        """
        ...
