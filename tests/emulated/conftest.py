"""One boot a machine, shared by all tests: what was done in there, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.cells.judge import Raw
from kvmharness.cells.matrix import select
from kvmharness.cells.turn import EXECUTE, PlannedTurn
from kvmharness.lab.events import Data, Event
from kvmharness.lab.job import Job, Machine
from kvmharness.lab.kernels import build, parameters
from kvmharness.lab.steps import Call, Load, Unload
from kvmharness.litmus.named.all import every
from kvmharness.oracle import oracles
from kvmharness.results.record import CellResult, Record, VariantId
from kvmharness.system.programs import MissingToolError
from kvmharness.validation.campaign import Variant, run_in
from kvmharness.validation.litmus import run_litmus, settings
from kvmharness.validation.probing import surroundings_of
from kvmharness.validation.snapshots import emulated_host
from tests.emulated.hosts import ready
from tests.emulated.scenarios import LENGTHS, outcome, planned

USUAL = oracles.told(oracles.DEFAULT, None)  # the lab's kernel is 6.1 as released: it has the series

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
    """What was found."""

    record: Record
    outcomes: dict[str, Any] = field(default_factory=dict)

    @property
    def host(self) -> Mapping[str, Any]:
        return self.record.host

    @property
    def dmesg(self) -> tuple[str, ...]:
        return self.record.dmesg

    @property
    def results(self) -> dict[str, CellResult]:
        return {result.id: result for result in self.record.results}


def boot(host, cells, *, scenarios=False):
    """Runs cells in one boot, and the scenarios in another one."""
    kernel, machine = ready(host)
    stock = Variant(VariantId("stock", kernel.source, oracle=USUAL), kernel.modules)
    record = run_in(machine, (stock,), ("stock",), cells, command=("a", "test"), on_result=lambda *progress: None)
    return Done(record, run_scenarios(machine, kernel) if scenarios else {})


def run_scenarios(machine: Machine, kernel: build.Kernel) -> dict[str, Any]:
    there = surroundings_of(machine, kernel.modules, [()])[()]
    wanted = planned(there.offered)
    # Arguments for cells of the same number; each of them is then replaced.
    turn = PlannedTurn([each.cell for each in wanted.values()], there, LENGTHS)
    arguments = {**turn.arguments, "cells": [each.to_json() for each in wanted.values()]}
    outcomes = {}

    def take(event: Event) -> None:
        if isinstance(event, Data) and "begins" not in event.data:
            name = list(wanted)[len(outcomes)]
            outcomes[name] = outcome(wanted[name], Raw.read(event.data))

    steps = (Load("stock"), Call(EXECUTE, arguments, required=True), Unload())
    machine.run(Job(steps, modules={"stock": kernel.modules}, timeout_s=400), take)
    return outcomes


@pytest.fixture(scope="session")
def skylake():
    return boot("vmx:skylake", NESTED, scenarios=True)


@pytest.fixture(scope="session")
def skylake_again(skylake):
    return boot("vmx:skylake", NESTED, scenarios=True)


@pytest.fixture(scope="session")
def penryn():
    return boot("vmx:penryn", WITHOUT_EPT)


def litmus(host):
    """All named tests under every setting that matters on a host, label -> result; those that were skipped too."""
    try:
        kernel = build.kernel()
        machine = emulated_host(host, kernel)
        machine.description  # noqa: B018 - as above
    except MissingToolError as e:
        pytest.skip(f"{e}: {e.hint}")
    stock = Variant(VariantId("stock", kernel.source), kernel.modules)
    known = parameters.of_modules(kernel.modules)
    module = "kvm_amd" if host.startswith("svm") else "kvm_intel"
    return {test.label: test for test in run_litmus(machine, (stock,), settings(module, known), every()).tests}


@pytest.fixture(scope="session")
def litmus_vmx():
    return litmus("vmx:skylake")


@pytest.fixture(scope="session")
def litmus_svm():
    return litmus("svm:epyc")
