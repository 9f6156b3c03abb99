"""One boot a machine, shared by all tests: what was done in there, as data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kvmharness.cells.cell import Cell, Setup, select
from kvmharness.guest import shipped as programs
from kvmharness.lab.events import Data, Dmesg, Event
from kvmharness.lab.image.interpreter import LIBRARY
from kvmharness.lab.job import Job
from kvmharness.lab.kernels import build
from kvmharness.lab.machines.catalogue import emulated_host
from kvmharness.lab.steps import Call, Load, Unload
from kvmharness.results.record import CellResult
from kvmharness.system.programs import MissingToolError
from kvmharness.validation.campaign import EMULATED_PLAN

SCENARIOS = Path(__file__).with_name("scenarios.py")
BOTH = {"p1": True, "p2": True}  # the lab's kernel is 6.1 as released: it has the series

# On both sides of the cache's size, with everything that makes a cell different.
NESTED = (
    *select(("a:1x1", "a:3x3", "a:1x4", "a:3x3/pcid", "a:3x3/novpid")),
    *select(("b:1x1", "b:5x1", "b:5x1/pcid", "b:5x1/invept8")),
    *select(("c:4/ABAB", "c:5/ABAB", "c:4/AABB", "c:5/AABB")),
    Cell(Setup.NO_EPT, 2, 3, l2_moves_cr3=True),
    Cell(Setup.ONE_EPTP, 2, 2, eptps=1, l2_moves_cr3=True),
    *select(("d:1", "d:5", "d:5/pcid")),
)
WITHOUT_EPT = (
    *(Cell(Setup.NO_EPT, n1, n2, vpid=False) for n1, n2 in ((1, 1), (1, 4), (2, 2), (3, 3))),
    Cell(Setup.NO_EPT, 2, 2, vpid=False, l2_moves_cr3=True),
    *select(("d:1", "d:4", "d:5", "d:8", "b:1x1")),
)


@dataclass
class Done:
    """What one boot gave."""

    host: Mapping[str, Any] = field(default_factory=dict)
    results: dict[str, CellResult] = field(default_factory=dict)
    outcomes: dict[str, Any] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def take(self, event):
        self.events.append(event)
        data = event.data if isinstance(event, Data) else {}
        if "result" in data:
            result = CellResult.from_json(data["result"])
            self.results[result.id] = result
        elif "scenario" in data:
            self.outcomes[data["scenario"]] = data["outcome"]
        elif "host" in data:
            self.host = data["host"]

    @property
    def dmesg(self):
        return [line for event in self.events if isinstance(event, Dmesg) for line in event.lines]


def boot(cpu, cells, *, scenarios=False):
    """Runs cells, and the scenarios with them, in one boot."""
    try:
        kernel = build.kernel()
        machine = emulated_host(cpu, kernel)
        machine.description  # noqa: B018 - asks the emulator, which may be missing
    except MissingToolError as e:
        pytest.skip(f"{e}: {e.hint}")
    images = programs.pack()
    arguments = {
        "cells": [cell.to_json() for cell in cells],
        "plan": asdict(EMULATED_PLAN),
        "oracle": BOTH,
        "images": images,
    }
    steps = [Load("stock"), Call("kvmharness.cells.experiment:run_cells", arguments, required=True)]
    if scenarios:
        steps.append(Call("nested_scenarios:run", {"images": images}, required=True))
    steps.append(Unload())
    job = Job(
        tuple(steps),
        files={f"{LIBRARY[1:]}/nested_scenarios.py": SCENARIOS},
        modules={"stock": kernel.modules},
        timeout_s=400,
    )
    done = Done()
    machine.run(job, done.take)
    return done


@pytest.fixture(scope="session")
def skylake():
    return boot("skylake", NESTED, scenarios=True)


@pytest.fixture(scope="session")
def skylake_again(skylake):
    return boot("skylake", NESTED, scenarios=True)


@pytest.fixture(scope="session")
def penryn():
    return boot("penryn", WITHOUT_EPT)
