"""Measures what emulated hosts cost: a boot against a restore, cells, whole commands, one emulator against two.

In processor seconds where that is the cost, because seconds of the clock depend on what else the machine does; and as
ratios of what was measured in turns, in the same run. Figures are medians.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from bench_figures import Result

from kvmharness.cells.cell import Cell, Setup
from kvmharness.cells.matrix import validation_matrix
from kvmharness.cells.turn import EXECUTE, PlannedTurn
from kvmharness.errors import HostRequirementError
from kvmharness.lab.events import Data, Event
from kvmharness.lab.job import Job, Machine
from kvmharness.lab.kernels import build as kernels
from kvmharness.lab.steps import Call, Load
from kvmharness.validation import snapshots
from kvmharness.validation.campaign import EMULATED_PLAN
from kvmharness.validation.probing import surroundings_of

HOSTS = ("vmx:skylake", "svm:epyc")
CELL_RUN = ("run", "--host", "vmx", "a:1x1")
VALIDATION = ("validate", "fast-cr3-switch", "--host", "vmx")
PYTEST = ("--kvm-host", "vmx", "-q", "-p", "no:cacheprovider")

BOOT_AT_MOST_S = 10.0
RESTORE_AT_MOST = 0.2
CELL_RUN_AT_MOST_S = 3.0
VALIDATION_AT_MOST_S = 20.0
PYTEST_AT_MOST_S = 6.0

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Cost:
    """What something took, in seconds of the processor (all its processes) and of the clock."""

    processor: float
    clock: float


def cost(work: Callable[[], object]) -> Cost:
    """What the child processes that *work* starts and waits for take."""
    began, used = time.perf_counter(), _children_s()
    work()
    return Cost(_children_s() - used, time.perf_counter() - began)


def in_turns(runs: int, *works: Callable[[], object]) -> list[Cost]:
    """The medians of what each takes, in turns A B, B A, ... so that a busier minute meets all of them."""
    costs: list[list[Cost]] = [[] for _ in works]
    for turn in range(runs):
        for number in range(len(works)) if turn % 2 == 0 else reversed(range(len(works))):
            costs[number].append(cost(works[number]))
    return [Cost(median(one.processor for one in each), median(one.clock for one in each)) for each in costs]


def emulated(runs: int, *, quick: bool) -> list[Result]:
    """All of it; *quick* leaves out what takes minutes."""
    works = [("vmx", cells), ("vmx", commands), *([] if quick else [("vmx", validations)])]
    works = [*((host, partial(boot_and_restore, host)) for host in HOSTS), *works]
    return [result for host, measure in works for result in _unless_skipped(host, partial(measure, runs))]


def _unless_skipped(host: str, measure: Callable[[], list[Result]]) -> list[Result]:
    """What is measured, or why it could not be."""
    try:
        return measure()
    except HostRequirementError as e:
        return [Result(f"emulated host {host}", None, "", None, note=f"skipped: {e}; {e.hint}")]


def boot_and_restore(host: str, runs: int) -> list[Result]:
    """Until the agent is ready: a host that boots, and one that goes on from its snapshot."""
    kernel = kernels.kernel(progress=_tell)
    booted, restored = (snapshots.emulated_host(host, kernel, say=_tell, snapshot=on) for on in (False, True))

    def start(machine: Machine) -> Callable[[], None]:
        return lambda: machine.run(Job((), timeout_s=120), lambda event: None)

    works = start(booted), start(restored)
    for work in works:  # makes the image and the snapshot that the others find in the cache
        work()
    boot, restore = in_turns(runs, *works)
    ratio = restore.processor / boot.processor
    return [
        Result(
            f"{host}: restored until its agent is ready, against booted, processor seconds",
            round(ratio, 3),
            f"<= {RESTORE_AT_MOST:g}",
            ratio <= RESTORE_AT_MOST,
            f"{restore.processor:.2f} s",
            f"{boot.processor:.2f} s",
        )
    ]


def cells(runs: int) -> list[Result]:
    """A boot with one cell, and each cell more."""
    kernel = kernels.kernel(progress=_tell)
    machine = snapshots.emulated_host(kernel=kernel, snapshot=False)
    there = surroundings_of(machine, kernel.modules, [()])[()]
    firsts: list[float] = []

    def boot(some: Sequence[Cell]) -> None:
        turn = PlannedTurn(some, there, EMULATED_PLAN)
        steps = (Load("stock"), Call(EXECUTE, turn.arguments, required=True))
        began, results = time.perf_counter(), []

        def listen(event: Event) -> None:
            if isinstance(event, Data) and "begins" not in event.data:
                results.append(time.perf_counter() - began)

        machine.run(Job(steps, modules={"stock": kernel.modules}, timeout_s=400), listen)
        if len(results) != len(some):
            raise SystemExit(f"bench: {len(results)} results of {len(some)} cells")
        firsts.append(results[0])

    alone = (Cell(Setup.NO_EPT, 3, 3),)
    many = [cell for cell in validation_matrix() if not cell.params]
    one, whole = in_turns(runs, lambda: boot(alone), lambda: boot(many))
    each = (whole.processor - one.processor) / (len(many) - len(alone))
    return [
        Result(
            "vmx: a boot with one cell, processor seconds",
            round(one.processor, 2),
            f"<= {BOOT_AT_MOST_S:g}",
            one.processor <= BOOT_AT_MOST_S,
            note=f"{median(firsts):.1f} s by the clock from its start to the first cell's result",
        ),
        Result(f"vmx: each cell more, of {len(many)} in a boot, processor seconds", round(each, 3), "", None),
    ]


def commands(runs: int) -> list[Result]:
    """Whole commands as a user types them, from a snapshot and without one."""
    tool = [sys.executable, "-m", "kvmharness"]
    run = _done([*tool, *CELL_RUN])
    tests = _done([sys.executable, "-m", "pytest", *PYTEST], ROOT / "tests/examples")
    for work in (run, tests):
        work()
    restored, booted = in_turns(runs, run, _done([*tool, *CELL_RUN, "--no-snapshot"]))
    inside, without = in_turns(
        runs, tests, _done([sys.executable, "-m", "pytest", *PYTEST, "--kvm-no-snapshot"], ROOT / "tests/examples")
    )
    return [
        *_command(f"kvmharness {' '.join(CELL_RUN)}", restored, booted, CELL_RUN_AT_MOST_S),
        *_command("pytest --kvm-host vmx, two tests", inside, without, PYTEST_AT_MOST_S),
    ]


def validations(runs: int) -> list[Result]:
    """A validation of the shipped series whose variants are built: one emulator, and two at a time."""
    command = [sys.executable, "-m", "kvmharness", *VALIDATION]
    _done([*command, "--jobs", "2"])()
    two, one = in_turns(runs, _done([*command, "--jobs", "2"]), _done([*command, "--jobs", "1"]))
    ratio = two.clock / one.clock
    return [
        _by_clock(f"kvmharness {' '.join(VALIDATION)}, the second time", two, VALIDATION_AT_MOST_S),
        Result(
            "the same with two emulators at a time, against one, seconds of the clock",
            round(ratio, 3),
            "",
            None,
            f"{two.clock:.1f} s",
            f"{one.clock:.1f} s",
        ),
    ]


def _command(name: str, restored: Cost, booted: Cost, at_most_s: float) -> list[Result]:
    return [
        _by_clock(name, restored, at_most_s),
        Result(
            f"{name}, from a snapshot against booted, processor seconds",
            round(restored.processor / booted.processor, 3),
            "",
            None,
            f"{restored.processor:.2f} s",
            f"{booted.processor:.2f} s",
        ),
    ]


def _by_clock(name: str, took: Cost, at_most_s: float) -> Result:
    note = f"{took.processor:.2f} s of the processor"
    return Result(
        f"{name}, seconds of the clock",
        round(took.clock, 2),
        f"<= {at_most_s:g}",
        took.clock <= at_most_s,
        note=note,
    )


def _done(command: Sequence[str], folder: Path = ROOT) -> Callable[[], None]:
    """A command that must succeed."""

    def run() -> None:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"bench: {' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    return run


def _children_s() -> float:
    """Processor seconds of all child processes that have ended, and of those that they waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tell(line: str) -> None:
    print(line, file=sys.stderr)
