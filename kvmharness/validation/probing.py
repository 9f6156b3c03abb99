"""What a machine is to the cells: asked by a job of its own once per kernel, CPU model and parameters, then cached."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from kvmharness.cells.params import Params
from kvmharness.cells.surroundings import Surroundings, surroundings
from kvmharness.errors import UsageError
from kvmharness.hosts.facts import facts
from kvmharness.kvm.capabilities import capabilities
from kvmharness.lab.events import Data, Event
from kvmharness.lab.job import Job, Machine, OnEvent, ProtocolError
from kvmharness.lab.kernels.build import modules_id
from kvmharness.lab.steps import Call, Load, Step, Unload
from kvmharness.system import cache

PROBE = "kvmharness.cells.surroundings:probe"

Run = Callable[[Job, OnEvent], None]
"""What does a job, as :meth:`kvmharness.lab.job.Machine.run`."""

_KEPT = 64
_TIMEOUT_S = 180.0


def surroundings_of(machine: Machine, modules: Path, groups: Iterable[Params]) -> dict[Params, Surroundings]:
    """What *machine* is with these KVM modules, for each group of module parameters.

    Args:
        machine: where cells will run.
        modules: KVM's modules there.
        groups: parameters to load them with.

    Raises:
        LostMachineError: the machine was lost, or what it says is not understood.
        StepFailedError: the modules do not load or unload.
    """
    wanted = tuple(dict.fromkeys(groups))
    if not machine.identity:
        return dict(zip(wanted, ask(machine.run, modules, wanted), strict=True))
    key = cache.digest(_code(), machine.identity, modules_id(modules), wanted)

    def make(target: Path) -> None:
        target.write_text(json.dumps([answer.to_json() for answer in ask(machine.run, modules, wanted)]))

    path = cache.file_entry("surroundings", key, make)
    cache.keep_newest("surroundings", _KEPT)
    with cache.intact(path):
        return dict(zip(wanted, map(_read, json.loads(path.read_bytes())), strict=True))


def _code() -> str:
    """Changes when what is asked does."""
    asked = (surroundings, facts, capabilities)
    return cache.digest(*(Path(each.__code__.co_filename).read_bytes() for each in asked))


def ask(run: Run, modules: Path, groups: Sequence[Params]) -> list[Surroundings]:
    """The same without the cache, for each group, of the machine that does jobs by *run*.

    Raises:
        As :func:`surroundings_of`.
    """
    steps: list[Step] = []
    for group in groups:
        steps += [Load("probed", dict(group)), Call(PROBE, required=True), Unload()]
    answers: list[Surroundings] = []

    def take(event: Event) -> None:
        if isinstance(event, Data):
            answers.append(_read(event.data))

    run(Job(tuple(steps), modules={"probed": modules}, timeout_s=_TIMEOUT_S), take)
    if len(answers) != len(groups):
        raise ProtocolError(
            f"{len(answers)} answers to {len(groups)} questions about the host", "it was asked once each"
        )
    return answers


def _read(data: Any) -> Surroundings:
    try:
        return Surroundings.from_json(data)
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise UsageError(f"what the host says of itself is not understood: {e!r}") from None
