"""Emulated hosts that do each job from a snapshot where that can be trusted, and from a boot where it cannot.

A snapshot is trusted once the same cells, run in a booted host and in a restored one, gave the same: every count, every
exit, and the time of a round trip, in which some ten instructions depend on what its kernel's clock says.
"""

import logging
from dataclasses import dataclass, field
from math import isclose
from pathlib import Path
from statistics import median
from typing import cast

from kvmharness.cells.matrix import select
from kvmharness.cells.surroundings import Surroundings
from kvmharness.cells.turn import EXECUTE, DiffersError, PlannedTurn
from kvmharness.lab.events import Data, Event
from kvmharness.lab.image.initramfs import ImageParts
from kvmharness.lab.job import Job, Machine, OnEvent
from kvmharness.lab.kernels import build
from kvmharness.lab.machines import emulator
from kvmharness.lab.machines.emulator import EmulatedMachine
from kvmharness.lab.machines.own import OwnEmulator
from kvmharness.lab.machines.snapshot.kept import forget, kept
from kvmharness.lab.machines.snapshot.state import DamagedError, NoSnapshotError
from kvmharness.lab.steps import Call, Load, Unload
from kvmharness.results.record import CellResult
from kvmharness.system.programs import Progress, silent
from kvmharness.system.shown import shown
from kvmharness.validation.campaign import EMULATED_PLAN
from kvmharness.validation.probing import Run, ask

# Nested, so that everything that is measured has a part in it; each host of the catalogue can run some of them.
_CANARIES = ("a:3x3", "a:3x3/novpid", "d:5")
# What is about the ticks of the host's timer: how many of them a pass meets depends on when it begins.
_EXITS = "kvm_exit kvm_nested_vmexit exits EXTERNAL_INTERRUPT INTR irq_exits"
_RELOADS = "host_state_reload fpu_reload preemption_reported preemption_other"
_ROOM = 1e-3  # of a time; a clock that is not restored costs a hundred times as much
_TICKS = frozenset(f"{_EXITS} {_RELOADS}".split())
_TIMEOUT_S = 180.0
# What this process has said, and the machines that it could not save.
_said: set[str] = set()
_given_up: dict[str, NoSnapshotError] = {}


def say(line: str) -> None:
    """Tells what is being done about snapshots, on standard error unless the program has other plans for its log."""
    logging.getLogger(__name__).warning("%s", shown(line))


def emulated_host(
    name: str | None = None,
    kernel: build.Kernel | None = None,
    *,
    parts: ImageParts | None = None,
    progress: Progress = silent,
    say: Progress = say,
    snapshot: bool = True,
    at_once: int = 1,
    own: OwnEmulator | None = None,
) -> Machine:
    """A machine to run jobs on; as :func:`kvmharness.lab.machines.emulator.emulated_host`, but faster.

    Args:
        name, kernel, parts, progress, own: as there.
        say: takes what is being done about snapshots, and once why there is none.
        snapshot: whether jobs start from a snapshot, unless the kernel is that of one variant.
        at_once: how many jobs may be done at the same time.

    Raises:
        As there.
    """
    made = kernel or build.kernel(progress=progress)
    machine = emulator.emulated_host(name, made, parts=parts, own=own)
    # To save and to check a host costs six times what restoring it then saves, and a variant's kernel does two jobs.
    return Snapshotted(cast(EmulatedMachine, machine), made.modules, say, snapshot and not made.of_variant, at_once)


@dataclass(frozen=True, slots=True)
class Snapshotted:
    """A machine that is restored for each job, or booted where that cannot be done (a :class:`Machine`).

    Attributes:
        machine: what is saved, or booted.
        modules: KVM's, for the cells that a snapshot is checked with.
        say: takes what is being done, and once why there is no snapshot.
        snapshot: whether it is to be restored.
        at_once: see :class:`Machine`.
    """

    machine: EmulatedMachine
    modules: Path
    say: Progress = field(default=say, compare=False)
    snapshot: bool = True
    at_once: int = 1

    @property
    def description(self) -> str:
        """That of the machine: where it starts from changes no result."""
        return self.machine.description

    @property
    def identity(self) -> str:
        """Likewise."""
        return self.machine.identity

    @property
    def watch(self) -> None:
        """Nothing disturbs it."""

    def run(self, job: Job, on_event: OnEvent) -> None:
        """See :class:`Machine`."""
        if not self.snapshot:
            self.machine.run(job, on_event)
            return
        try:
            self._run_restored(job, on_event)
        except (NoSnapshotError, DamagedError) as error:
            line = f"{self.machine.host.name} is booted for each job, which takes longer: {error}"
            if line not in _said:
                _said.add(line)
                self.say(line)
            self.machine.run(job, on_event)

    def _run_restored(self, job: Job, on_event: OnEvent) -> None:
        """Raises: NoSnapshotError, DamagedError, when nothing has been run."""
        try:
            self.machine.run_restored(self._kept(), job, on_event)
        except DamagedError as error:
            self.say(f"{error}; it is made anew")
            forget(self.machine)
            self.machine.run_restored(self._kept(), job, on_event)

    def _kept(self) -> Path:
        identity = self.machine.saved_identity
        if identity in _given_up:
            raise _given_up[identity]
        try:
            return kept(self.machine, self._differs, _once(self.say))
        except NoSnapshotError as error:
            _given_up[identity] = error
            raise

    def _differs(self, state: Path) -> str:
        return difference(self.machine, state, self.modules)


def _once(say: Progress) -> Progress:
    """Says a line once, however its seconds grow: a log is no place for a clock."""
    told: set[str] = set()

    def tell(line: str) -> None:
        form = line.rstrip("0123456789 s")
        if form not in told:
            told.add(form)
            say(line)

    return tell


def difference(machine: EmulatedMachine, state: Path, modules: Path) -> str:
    """How a restored host differs from a booted one; empty when it does not.

    Args:
        machine: to boot.
        state: the files of what it has saved.
        modules: KVM's.

    Raises:
        LostMachineError, StepFailedError: the cells did not run.
    """

    def restore(job: Job, on_event: OnEvent) -> None:
        machine.run_restored(state, job, on_event)

    # Not from the cache: who waits for that may be who waits for the snapshot. The restored one is asked, which takes
    # less time; should a booted one answer otherwise, it does not run what was planned for this.
    (there,) = ask(restore, modules, [()])
    try:
        booted = _results(there, modules, machine.run)
    except DiffersError as error:
        return f"a restored host is not what a booted one is: {error}"
    restored = _results(there, modules, restore)
    if not any(one.samples for one in booted):
        return "no cell runs in a booted host, so that a restored one cannot be compared with it"
    for one, other in zip(booted, restored, strict=True):
        expected, found = _figures(one), _figures(other)
        for name in expected | found:
            if not _same(expected.get(name), found.get(name), _ROOM if name == "time" else 0.0):
                figures = f"{expected.get(name)} booted and {found.get(name)} restored"
                return f"a restored host does not do what a booted one does: {name} of {one.id} is {figures}"
    return ""


def _same(one: object, other: object, room: float) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return isclose(one, other, rel_tol=room)
    return one == other


def _results(there: Surroundings, modules: Path, run: Run) -> list[CellResult]:
    turn = PlannedTurn(select(_CANARIES), there, EMULATED_PLAN)
    steps = (Load("canary"), Call(EXECUTE, turn.arguments, required=True), Unload())
    results: list[CellResult] = []

    def take(event: Event) -> None:
        if isinstance(event, Data) and "begins" not in event.data:
            results.extend(turn.take(event.data))

    run(Job(steps, modules={"canary": modules}, timeout_s=_TIMEOUT_S), take)
    results.extend(turn.rest())
    return results


def _figures(result: CellResult) -> dict[str, object]:
    """What a cell gave, by name; the timer ticks in some samples and not in others, so their median."""
    every: dict[str, object] = {**result.counts, **result.exits, **result.stats, "error": result.error}
    figures = {name: value for name, value in every.items() if name not in _TICKS}
    return figures | ({"time": median(result.samples)} if result.samples else {})
