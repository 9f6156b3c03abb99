"""lab: the emulated host by itself: build its kernel, boot it, run a program in it."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvmharness.cli import options as shared
from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import Output as Screen
from kvmharness.cli.output import Task
from kvmharness.errors import ExitCode, UsageError
from kvmharness.lab.events import Data, Dmesg, End, Event, Hello, Output
from kvmharness.lab.job import Job, Machine
from kvmharness.lab.kernels.build import Kernel
from kvmharness.lab.kernels.choice import KernelChoice
from kvmharness.lab.steps import Call, Exec, Exited, Load, Step
from kvmharness.results.jsonread import map_of, text, text_map, texts
from kvmharness.system.reading import PROGRAM, opened
from kvmharness.system.shown import shown
from kvmharness.validation.host import Emulated

_BOOT_TIMEOUT_S = 300.0
_SIGNAL_BASE = 128


def add(verbs: Verbs) -> None:  # type: ignore[valid-type]
    """Registers the verb and what it can do."""
    lab: Any = verbs.add_parser(  # type: ignore[attr-defined]
        "lab",
        help="the emulated host by itself: build its kernel, boot it, run a program in it",
        description="The emulated host by itself: a real Linux kernel under an emulator with VMX.",
    )
    parts = lab.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_build(parts)
    _add_boot(parts)
    _add_exec(parts)


def _add_build(parts: Any) -> None:
    made = verb(
        parts,
        "build",
        read_build,
        act_build,
        "build the emulated host's kernel",
        "Built once and found again in the cache.",
    )
    shared.add_kernel_options(made)
    made.add_argument("--json", action="store_true", help="print one JSON document instead")


def _add_boot(parts: Any) -> None:
    made = verb(parts, "boot", read_boot, act_boot, "boot the emulated host and show what it is")
    _add_machine_options(made)
    made.add_argument("--json", action="store_true", help="print one JSON document instead")


def _add_exec(parts: Any) -> None:
    made = verb(
        parts,
        "exec",
        read_exec,
        act_exec,
        "run a static program in the emulated host, with /dev/kvm and nesting on",
        "Its output comes out here; it ends with the program's exit status, with 128 + N when signal N ended it.",
    )
    _add_machine_options(made)
    made.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, default=600.0, help="how long it may take, the boot included"
    )
    made.add_argument("file", metavar="FILE", type=Path, help="a statically linked program of this machine")
    made.add_argument("arguments", metavar="ARG", nargs=argparse.REMAINDER, help="passed on to it")


def _add_machine_options(parser: argparse.ArgumentParser) -> None:
    shared.add_host_option(parser)
    shared.add_parameter_option(parser)
    shared.add_kernel_options(parser)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """A kernel to build, or to find.

    Attributes:
        kernel: which one.
        as_json: prints JSON.
    """

    kernel: KernelChoice
    as_json: bool


def read_build(options: argparse.Namespace) -> BuildRequest:
    """What is asked for. Raises: UsageError, options that contradict each other."""
    return BuildRequest(shared.kernel_choice(options), options.json)


def act_build(request: BuildRequest, output: Screen) -> int:
    """Builds the kernel, or finds it."""
    started = time.monotonic()
    with output.task("Kernel") as task:
        kernel = request.kernel.get(task.tick)
    facts = {
        "release": kernel.release,
        "source": kernel.source,
        "image": str(kernel.image),
        "modules": str(kernel.modules),
        "config_hash": kernel.config_hash,
    }
    if request.as_json:
        output.document(json.dumps(facts, indent=1))
    else:
        _print_facts(facts, output)
        output.say(f"{time.monotonic() - started:.1f} s")
    return ExitCode.PASS


@dataclass(frozen=True, slots=True)
class Booted:
    """An emulated host to boot.

    Attributes:
        host: which one.
        kernel: what it boots.
        params: of KVM's modules.
    """

    host: Emulated
    kernel: KernelChoice
    params: Mapping[str, str]

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Booted":
        """What is asked for. Raises: UsageError, no such host, or options that contradict each other."""
        return cls(shared.emulated_host(options), shared.kernel_choice(options), dict(options.param))

    def ready(self, task: Task) -> tuple[Kernel, Machine]:
        """The kernel, built if it has to be, and the machine that is about to boot it."""
        kernel = self.kernel.get(task.tick)
        machine = self.host.machine(kernel)
        task.step(f"booting {kernel.release} in {machine.description}")
        return kernel, machine


@dataclass(frozen=True, slots=True)
class BootRequest:
    """An emulated host to look at.

    Attributes:
        booted: which one.
        as_json: prints JSON.
    """

    booted: Booted
    as_json: bool


def read_boot(options: argparse.Namespace) -> BootRequest:
    """What is asked for. Raises: UsageError, as :meth:`Booted.of`."""
    return BootRequest(Booted.of(options), options.json)


def act_boot(request: BootRequest, output: Screen) -> int:
    """Boots, loads KVM, says what is there, powers off."""
    facts: dict[str, object] = {}
    up: list[float] = []

    def take(event: Event) -> None:
        match event:
            case Hello():
                up.append(time.monotonic() - started)
            case Data(data=data):
                facts.update(_checked(data))

    with output.task("Emulated host") as task:
        kernel, machine = request.booted.ready(task)
        started = time.monotonic()
        call = Call("kvmharness.hosts.facts:summary", required=True)
        machine.run(_job(call, kernel, request.booted.params, timeout_s=_BOOT_TIMEOUT_S), take)
    facts |= {"emulator": machine.description}
    if request.as_json:
        output.document(json.dumps(facts, indent=1, sort_keys=True))
    else:
        _print_facts(facts, output)
        output.say(f"up after {up[0]:.1f} s, off after {time.monotonic() - started:.1f} s")
    return ExitCode.PASS


def _job(step: Step, kernel: Kernel, parameters: Mapping[str, str], **more: Any) -> Job:
    """A job that loads the kernel's own KVM modules first."""
    return Job((Load("host", dict(parameters)), step), modules={"host": kernel.modules}, **more)


def _checked(facts: dict[str, object]) -> dict[str, object]:
    """What :func:`kvmharness.hosts.facts.summary` gives. Raises: ShapeError, when it is something else."""
    readers: dict[type, Callable[[object, str], object]] = {dict: map_of(text_map), list: texts}
    return {name: readers.get(type(value), text)(value, name) for name, value in facts.items()}


def _print_facts(facts: dict[str, Any], output: Screen) -> None:
    width = max(map(len, facts))
    for name, value in facts.items():
        if isinstance(value, dict):
            for module, parameters in value.items():
                shown = " ".join(f"{key}={setting}" for key, setting in sorted(parameters.items()))
                output.result(f"{module:<{width}}  {shown}")
        else:
            output.result(f"{name:<{width}}  {' '.join(value) if isinstance(value, tuple) else value}")


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """A program to run in an emulated host.

    Attributes:
        booted: the host.
        file: the program, seen to be one.
        arguments: of it.
        timeout_s: wall seconds for all, the boot included.
    """

    booted: Booted
    file: Path
    arguments: tuple[str, ...]
    timeout_s: float


def read_exec(options: argparse.Namespace) -> ExecRequest:
    """What is asked for. Raises: UsageError, not a program, or as :meth:`Booted.of`."""
    _check_program(options.file)
    return ExecRequest(Booted.of(options), options.file, tuple(options.arguments), options.timeout)


def act_exec(request: ExecRequest, output: Screen) -> int:
    """Runs the program; its output goes to standard output as it comes."""
    place = f"bin/{request.file.name}"

    log: list[str] = []
    ended: list[Exited] = []

    def take(event: Event) -> None:
        match event:
            case Output(text=said):
                sys.stdout.write(shown(said))
                sys.stdout.flush()
            case Dmesg(lines=lines):
                log.extend(lines)
            case End(result=Exited() as how):
                ended.append(how)

    with output.task("Emulated host") as task:
        kernel, machine = request.booted.ready(task)
    step = Exec((f"/{place}", *request.arguments), required=True)
    files = {place: request.file}
    machine.run(_job(step, kernel, request.booted.params, files=files, timeout_s=request.timeout_s), take)
    for line in log:
        output.detail(f"dmesg: {line}")
    return _status(ended[0])


def _check_program(path: Path) -> None:
    """Refuses what cannot run inside before a machine is booted for it."""
    with opened(path, PROGRAM) as file:
        start = file.read(4)
    if start != b"\x7fELF":
        raise UsageError(f"{path} is not a program for Linux (ELF)", "Build it with -static.")


def _status(ended: Exited) -> int:
    """The program's exit status as ours."""
    import signal

    if ended.status is None:
        return _SIGNAL_BASE + signal.Signals[str(ended.signal)]
    return ended.status
