"""lab: the emulated host by itself: build its kernel, boot it, run a program in it."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kvmharness.cli import machine
from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import Output as Screen
from kvmharness.errors import ExitCode, UsageError
from kvmharness.lab.events import Data, Dmesg, End, Event, Hello, Output
from kvmharness.lab.steps import Call, Exec, Exited
from kvmharness.results.jsonread import map_of, text, text_map, texts

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
        parts, "build", run_build, "build the emulated host's kernel", "Built once and found again in the cache."
    )
    machine.add_kernel_options(made)
    made.add_argument("--json", action="store_true", help="print one JSON document instead")


def _add_boot(parts: Any) -> None:
    made = verb(parts, "boot", run_boot, "boot the emulated host and show what it is")
    _add_machine_options(made)
    made.add_argument("--json", action="store_true", help="print one JSON document instead")


def _add_exec(parts: Any) -> None:
    made = verb(
        parts,
        "exec",
        run_exec,
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
    parser.add_argument("--host", metavar="HOST", default=machine.EMULATED, help=machine.HOST_HELP)
    machine.add_parameter_option(parser)
    machine.add_kernel_options(parser)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def run_build(options: argparse.Namespace, output: Screen) -> int:
    """Builds the kernel, or finds it."""
    started = time.monotonic()
    with output.task("Kernel") as task:
        kernel = machine.kernel_of(options, task)
    facts = {
        "release": kernel.release,
        "source": kernel.source,
        "image": str(kernel.image),
        "modules": str(kernel.modules),
        "config_hash": kernel.config_hash,
    }
    if options.json:
        output.result(json.dumps(facts, indent=1))
    else:
        _print_facts(facts, output)
        output.say(f"{time.monotonic() - started:.1f} s")
    return ExitCode.PASS


def run_boot(options: argparse.Namespace, output: Screen) -> int:
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
        kernel, host = machine.chosen(options, task)
        task.step(f"booting {kernel.release} in {host.description}")
        started = time.monotonic()
        call = Call("kvmharness.lab.inside.facts:facts", required=True)
        host.run(machine.job(call, kernel, dict(options.param), timeout_s=_BOOT_TIMEOUT_S), take)
    facts |= {"emulator": host.description}
    if options.json:
        output.result(json.dumps(facts, indent=1, sort_keys=True))
    else:
        _print_facts(facts, output)
        output.say(f"up after {up[0]:.1f} s, off after {time.monotonic() - started:.1f} s")
    return ExitCode.PASS


def _checked(facts: dict[str, object]) -> dict[str, object]:
    """What :mod:`kvmharness.lab.inside.facts` gives. Raises: ShapeError, when it is something else."""
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


def run_exec(options: argparse.Namespace, output: Screen) -> int:
    """Runs the program; its output goes to standard output as it comes."""
    _check_program(options.file)
    place = f"bin/{options.file.name}"

    log: list[str] = []
    ended: list[Exited] = []

    def take(event: Event) -> None:
        match event:
            case Output(text=said):
                sys.stdout.write(said)
                sys.stdout.flush()
            case Dmesg(lines=lines):
                log.extend(lines)
            case End(result=Exited() as how):
                ended.append(how)

    with output.task("Emulated host") as task:
        kernel, host = machine.chosen(options, task)
        task.step(f"booting {kernel.release} in {host.description}")
    step = Exec((f"/{place}", *options.arguments), required=True)
    job = machine.job(step, kernel, dict(options.param), files={place: options.file}, timeout_s=options.timeout)
    host.run(job, take)
    for line in log:
        output.detail(f"dmesg: {line}")
    return _status(ended[0])


def _check_program(path: Path) -> None:
    """Refuses what cannot run inside before a machine is booted for it."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "Name a statically linked program.") from None
    if start != b"\x7fELF":
        raise UsageError(f"{path} is not a program for Linux (ELF)", "Build it with -static.")


def _status(ended: Exited) -> int:
    """The program's exit status as ours."""
    import signal

    if ended.status is None:
        return _SIGNAL_BASE + signal.Signals[str(ended.signal)]
    return ended.status
