"""What a machine is to the cells: asked by a job of its own once per kernel, CPU model and parameters, then cached."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kvmharness.cells.surroundings import Surroundings
from kvmharness.cells.surroundings import surroundings as surroundings_here
from kvmharness.errors import KvmHarnessError, LostMachineError
from kvmharness.hosts.facts import facts
from kvmharness.kvm.capabilities import capabilities
from kvmharness.lab.job import Event, Job, Machine
from kvmharness.lab.kernels.build import modules_id
from kvmharness.system import cache

PROBE = "kvmharness.cells.surroundings:probe"

Params = tuple[tuple[str, str], ...]

_KEPT = 64
_TIMEOUT_S = 180.0


def surroundings(
    machine: Machine, modules: Path, groups: Iterable[Params], *, fresh: bool = False
) -> dict[Params, Surroundings]:
    """What *machine* is with these KVM modules, for each group of module parameters.

    Args:
        machine: where cells will run.
        modules: KVM's modules there.
        groups: parameters to load them with.
        fresh: ask again, whatever is cached.

    Raises:
        LostMachineError: the machine was lost, or what it says is not understood.
    """
    wanted = list(dict.fromkeys(groups))
    if not machine.identity:
        return _ask(machine, modules, wanted)
    found = _code()
    key = cache.digest(found, machine.identity, modules_id(modules), [list(group) for group in wanted])
    if fresh:
        cache.forget("surroundings", key)

    def make(target: Path) -> None:
        answers = _ask(machine, modules, wanted)
        target.write_text(json.dumps([answers[group].to_json() for group in wanted]))

    path = cache.file_entry("surroundings", key, make)
    cache.keep_newest("surroundings", _KEPT)
    stored = json.loads(path.read_text())
    return {group: _read(data) for group, data in zip(wanted, stored, strict=True)}


def _code() -> str:
    """Changes when what is asked does."""
    asked = (surroundings_here, facts, capabilities)
    return cache.digest(*(Path(each.__code__.co_filename).read_bytes() for each in asked))


def _ask(machine: Machine, modules: Path, groups: list[Params]) -> dict[Params, Surroundings]:
    steps: list[Mapping[str, Any]] = []
    for group in groups:
        steps += [
            {"do": "load", "variant": "probed", "params": dict(group)},
            {"do": "call", "function": PROBE, "required": True},
            {"do": "unload"},
        ]
    answers: list[Surroundings] = []

    def on_event(event: Event) -> None:
        if event.get("event") == "data":
            answers.append(_read(event["data"]))
        elif event.get("event") == "error":
            raise KvmHarnessError(f"in the host under test: {event.get('message')}", str(event.get("hint") or ""))

    machine.run(Job(tuple(steps), modules={"probed": modules}, timeout_s=_TIMEOUT_S), on_event)
    if len(answers) != len(groups):
        raise LostMachineError(f"the host under test answered {len(answers)} of {len(groups)} questions about itself")
    return dict(zip(groups, answers, strict=True))


def _read(data: Any) -> Surroundings:
    try:
        return Surroundings.from_json(data)
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise LostMachineError(f"what the host under test says of itself is not understood: {e!r}") from None
