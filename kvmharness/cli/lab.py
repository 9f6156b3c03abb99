"""lab: the emulated host by itself: build its kernel, boot it; and the ways into it, which are files of their own."""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvmharness.cli import options as shared
from kvmharness.cli.booted import Booted, add_machine_options
from kvmharness.cli.inhost import add_exec, add_shell
from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import Output as Screen
from kvmharness.errors import ExitCode
from kvmharness.lab.events import Data, Event, Hello
from kvmharness.lab.kernels.choice import KernelChoice
from kvmharness.lab.steps import Call
from kvmharness.results.jsonread import map_of, text, text_map, texts

_BOOT_TIMEOUT_S = 300.0
_SIGNAL_BASE = 128


def add(verbs: Verbs) -> None:  # type: ignore[valid-type]
    """Registers the verb and what it can do."""
    lab: Any = verbs.add_parser(  # type: ignore[attr-defined]
        "lab",
        help="the emulated host by itself: build its kernel, boot it, run a program in it",
        description="The emulated host by itself: a real Linux kernel under an emulator with VMX or SVM.",
        epilog=shared.shown_examples(("kvmharness lab boot", "kvmharness help lab exec")),
        formatter_class=shared.Formatter,
    )
    parts = lab.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_build(parts)
    _add_boot(parts)
    add_exec(parts)
    add_shell(parts)


def _add_build(parts: Any) -> None:
    made = verb(
        parts,
        "build",
        read_build,
        act_build,
        "build the emulated host's kernel",
        "Built once and found again in the cache.",
        examples=("kvmharness lab build", "kvmharness lab build --source ~/linux --json"),
    )
    shared.add_kernel_options(made)
    made.add_argument("--json", action="store_true", help="print one JSON document instead")


def _add_boot(parts: Any) -> None:
    made = verb(
        parts,
        "boot",
        read_boot,
        act_boot,
        "boot the emulated host and show what it is",
        examples=("kvmharness lab boot", "kvmharness lab boot --host svm --param kvm.tdp_mmu=N"),
    )
    add_machine_options(made)
    made.add_argument("--json", action="store_true", help="print one JSON document instead")


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
class BootRequest:
    """An emulated host to look at.

    Attributes:
        booted: which one.
        as_json: prints JSON.
    """

    booted: Booted
    as_json: bool


def read_boot(options: argparse.Namespace) -> BootRequest:
    """What is asked for. Raises: UsageError, as :meth:`Booted.of_options`."""
    return BootRequest(Booted.of_options(options), options.json)


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

    call = Call("kvmharness.hosts.facts:summary", required=True)
    with request.booted.ready(output) as (one, machine):
        started = time.monotonic()
        machine.run(request.booted.job(one, call, timeout_s=_BOOT_TIMEOUT_S), take)
    facts |= {"emulator": machine.description}
    if request.as_json:
        output.document(json.dumps(facts, indent=1, sort_keys=True))
    else:
        _print_facts(facts, output)
        output.say(f"up after {up[0]:.1f} s, off after {time.monotonic() - started:.1f} s")
    return ExitCode.PASS


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
