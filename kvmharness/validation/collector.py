"""Takes what the hosts of a run say, turn by turn, holds it against what was planned, and makes the record of it."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import RLock, local
from typing import Any

from kvmharness.cells.cell import Cell
from kvmharness.cells.judge import blank
from kvmharness.cells.turn import DiffersError, PlannedTurn
from kvmharness.errors import KvmHarnessError, LostMachineError, UsageError
from kvmharness.lab.events import Begin, Data, Dmesg, End, Event, Memory
from kvmharness.lab.inside.memory import LOGGED
from kvmharness.lab.inside.modules import ModuleError
from kvmharness.lab.job import ProtocolError, StepFailedError
from kvmharness.lab.steps import Call, Load, Step
from kvmharness.results.incidents import LOAD, UNLOAD, KernelReport, Leftover, Loss, StepLog
from kvmharness.results.journal import Journal
from kvmharness.results.kernelwords import Words, reports
from kvmharness.results.record import CellError, CellKey, CellResult, Record, When
from kvmharness.validation.turns import Turn

OnResult = Callable[[CellResult, int, int], None]
"""Takes each result as it arrives, how many there are by now, and how many there will be."""

_CELLS = "before the first cell"


class Clock:
    """When a run started, and how long ago that is."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.iso = datetime.now(UTC).isoformat(timespec="seconds")

    def when(self) -> When:
        """For the record."""
        return When(self.iso, round(time.monotonic() - self._began, 1))


@dataclass(slots=True)
class _Progress:
    """How far a turn has come.

    Attributes:
        turn: what is to be run.
        planned: of the job that is going on.
        results: those that there are, by cell.
        said: lines of the kernel's log, by what was going on: LOAD, UNLOAD, a cell's id.
        given_up: no more is to be expected of it.
    """

    turn: Turn
    planned: PlannedTurn | None = None
    results: dict[CellKey, CellResult] = field(default_factory=dict)
    said: dict[str, tuple[str, ...]] = field(default_factory=dict)
    given_up: bool = False

    def remaining(self) -> tuple[Cell, ...]:
        """The cells that have no result."""
        return tuple(cell for cell in self.turn.cells if _key(cell) not in self.results)

    def ordered(self) -> list[CellResult]:
        """The results in the order of the cells."""
        return [self.results[key] for key in map(_key, self.turn.cells) if key in self.results]


class _Job(local):
    """The job that the thread is doing.

    Attributes:
        steps: its steps, each with the place of its turn.
        now: the step that is going on.
        cell: the id of the cell that is running.
        before, held: what the kernel held before this variant, and after the last one.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A new one."""
        self.steps: list[tuple[Step, int]] = []
        self.now: int | None = None
        self.cell = ""
        self.before: dict[str, int] = {}
        self.held: dict[str, int] = {}


class Collector:
    """Takes the events of jobs that are made of turns.

    Args:
        header: the record without results.
        turns: all of the run, whose index in this list is their place.
        clock: started with the run.
        on_result: takes each result.
        journal: is written as results come.
        earlier: a record that has some of the results.

    Attributes:
        differ: the places of turns that were planned for another KVM than theirs, so that nothing was run.
        losses: what took the kernel down.
    """

    def __init__(
        self,
        header: Record,
        turns: Sequence[Turn],
        clock: Clock,
        on_result: OnResult,
        *,
        journal: Journal | None = None,
        earlier: Record | None = None,
    ) -> None:
        self.differ: list[int] = []
        self.losses: list[Loss] = []
        self._header, self._clock = header, clock
        self._on_result, self._journal = on_result, journal or Journal()
        self._turns = [_Progress(turn) for turn in turns]
        self._lock = RLock()  # jobs may be done side by side, each in a thread of its own
        self._job = _Job()
        self._reports: list[KernelReport] = []  # from consoles
        self._leftovers: list[Leftover] = []
        if earlier is not None:
            self._keep(earlier)
        header = self.record()
        # Of several kernels each has a collector of its own, and the first one's header is for all of them.
        self._journal.begin(
            header if earlier is None else replace(header, results=earlier.results, tests=earlier.tests)
        )

    def _keep(self, earlier: Record) -> None:
        """Takes over the results of a run that was cut short, and what the kernel said during each."""
        there = {
            (each.turn.variant, each.turn.number, _key(cell)): each for each in self._turns for cell in each.turn.cells
        }
        for result in earlier.results:
            if progress := there.get((result.variant, result.turn, result.key)):
                progress.results[result.key] = result
                if result.dmesg:
                    progress.said[result.id] = result.dmesg

    def extend(self, turns: Iterable[Turn]) -> None:
        """More turns are to be run than was known at first."""
        self._turns += [_Progress(turn) for turn in turns]

    @property
    def pending(self) -> list[int]:
        """The places of turns that are not done."""
        return [place for place, each in enumerate(self._turns) if not each.given_up and each.remaining()]

    def remaining(self, place: int) -> tuple[Cell, ...]:
        """The cells of a turn that have no result."""
        return self._turns[place].remaining()

    def expect(self, place: int, planned: PlannedTurn, steps: Sequence[Step]) -> None:
        """Adds a turn to the job.

        Args:
            place: of the turn.
            planned: what is planned of it.
            steps: what the job does for it.
        """
        self._turns[place].planned = planned
        self._job.steps += [(step, place) for step in steps]

    def begin_job(self) -> None:
        """The turns that are added from now on are those of a new job, and so are the events that come."""
        self._job.begin()

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of the job."""
        return tuple(step for step, _ in self._job.steps)

    def take(self, event: Event) -> None:
        """Takes one event.

        Raises:
            UsageError: a result that nobody asked for, or none of a cell that was to run.
        """
        with self._lock:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case Begin(number):
                self._job.now, self._job.cell = number, ""
                if isinstance(self._job.steps[number][0], Load):
                    self._job.before, self._job.held = self._job.held, {}
            case Data(number, data):
                self._data(self._job.steps[number][1], data)
            case Dmesg(number, lines):
                said, doing = self._turns[self._job.steps[number][1]].said, self._doing(number)
                if new := tuple(line for line in lines if not line.endswith(LOGGED)):
                    said[doing] = (*said.get(doing, ()), *new)
            case Memory(number, held):
                self._unloaded(self._job.steps[number][1], held)
            case End(number):
                self._ended(*self._job.steps[number])
                self._job.now, self._job.cell = None, ""

    def _doing(self, number: int) -> str:
        step, _ = self._job.steps[number]
        return (self._job.cell or _CELLS) if isinstance(step, Call) else LOAD if isinstance(step, Load) else UNLOAD

    def _planned(self, place: int) -> PlannedTurn:
        planned = self._turns[place].planned
        assert planned is not None  # the job's turns are
        return planned

    def _ended(self, step: Step, place: int) -> None:
        if isinstance(step, Call) and place not in self.differ:
            self._add(place, self._planned(place).rest())

    def _data(self, place: int, data: dict[str, Any]) -> None:
        if "begins" in data:
            self._job.cell = self._planned(place).begins(data)
            return
        try:
            self._add(place, self._planned(place).take(data))
        except DiffersError:
            self.differ.append(place)

    def _unloaded(self, place: int, held: dict[str, int]) -> None:
        if before := self._job.before:
            more = {name: held.get(name, 0) - before.get(name, 0) for name in sorted({*held, *before})}
            progress = self._turns[place]
            ran = sum(result.skipped is None for result in progress.results.values())
            changed = {name: count for name, count in more.items() if count}
            self._leftovers.append(Leftover(progress.turn.variant, progress.turn.number, ran, changed))
        self._job.held = held

    def _add(self, place: int, results: Iterable[CellResult]) -> None:
        progress = self._turns[place]
        for made in results:
            result = replace(made, dmesg=progress.said.get(made.id, ()))
            progress.results[result.key] = result
            self._journal.add(result)
            self._on_result(
                result,
                sum(len(each.results) for each in self._turns),
                sum(len(each.turn.cells) for each in self._turns),
            )

    def lose(self, error: KvmHarnessError) -> str | None:
        """Notes what took the host down; None when that was nothing of the job's, else the variant that did it.

        The cell that was running gets the error for its result. A variant that does not load is not tried again with
        the same parameters.
        """
        with self._lock:
            return self._lose(error)

    def _lose(self, error: KvmHarnessError) -> str | None:
        if self._job.now is None or (isinstance(error, StepFailedError) and error.failed.type != ModuleError.__name__):
            return None
        place, doing = self._job.steps[self._job.now][1], self._doing(self._job.now)
        progress = self._turns[place]
        turn = progress.turn
        name = error.failed.type if isinstance(error, StepFailedError) else type(error).__name__
        if doing == _CELLS:  # before the first cell said so
            doing = progress.remaining()[0].id
        console = error.console if isinstance(error, LostMachineError) else ()
        every = reports(console)
        found = [words for words in every if words.kind != "panic"] or every
        why = f"the kernel went down: {found[-1].headline} {found[-1].rip}".rstrip() if found else str(error)
        loss = Loss(turn.variant, turn.number, doing, name, why)
        self.losses.append(loss)
        self._journal.keep(f"{loss.variant}, turn {loss.turn}, {loss.step}", console)
        self._reports += [_report(loss.variant, loss.turn, loss.step, words) for words in found[-1:]]
        for cell in progress.remaining():
            if cell.id == doing:
                self._add(place, [replace(blank(cell, turn.variant, turn.number), error=CellError(name, why))])
        for each in self._turns:
            if doing in (LOAD, UNLOAD) and (each.turn.variant, each.turn.params) == (turn.variant, turn.params):
                each.given_up = True
        return turn.variant

    def give_up(self, variant: str) -> None:
        """Expects nothing more of a variant."""
        for each in self._turns:
            each.given_up |= each.turn.variant == variant

    def record(self) -> Record:
        """The record of what was taken so far.

        Raises:
            ProtocolError: results that contradict themselves.
        """
        said = [(each.turn, step, lines) for each in self._turns for step, lines in each.said.items()]
        cells = {cell.id for each in self._turns for cell in each.turn.cells}
        outside = [entry for entry in said if entry[1] not in cells]
        found = [
            _report(turn.variant, turn.number, step, words) for turn, step, lines in said for words in reports(lines)
        ]
        record = replace(
            self._header,
            when=self._clock.when(),
            results=tuple(result for each in self._turns for result in each.ordered()),
            dmesg=tuple(line for _, _, lines in said for line in lines),
            logs=tuple(StepLog(turn.variant, turn.number, step, lines) for turn, step, lines in outside),
            reports=(*found, *sorted(self._reports, key=lambda report: report.turn)),
            losses=tuple(sorted(self.losses, key=lambda loss: loss.turn)),
            leftovers=tuple(sorted(self._leftovers, key=lambda left: left.turn)),
        )
        try:
            record.check()
        except UsageError as error:
            raise ProtocolError(str(error)) from error
        return record


def _key(cell: Cell) -> CellKey:
    return cell.id, tuple(sorted(cell.params))


def _report(variant: str, turn: int, step: str, words: Words) -> KernelReport:
    return KernelReport(
        variant, turn, step, words.kind, words.headline, words.place, words.rip, words.trace, words.text
    )
