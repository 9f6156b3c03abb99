"""Takes what the hosts of a run say, turn by turn, holds it against what was planned, and makes the record of it."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from kvmharness import __version__
from kvmharness.cells.turn import DiffersError, PlannedTurn
from kvmharness.errors import UsageError
from kvmharness.lab.events import Begin, Data, Dmesg, End, Event
from kvmharness.lab.job import ProtocolError
from kvmharness.lab.steps import Call, Load, Step
from kvmharness.measure.clock import UNIT_EMULATED, UNIT_TSC
from kvmharness.results.record import CellResult, Record, VariantId, When

OnResult = Callable[[CellResult, int, int], None]
"""Takes each result as it arrives, how many there are by now, and how many there will be."""

OnLoad = Callable[[str], None]
"""Takes a variant's name."""


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
        results: of its cells, in order.
        log: what the kernel said while its variant was loaded, used and unloaded: it goes with each of the results.
    """

    turn: PlannedTurn
    results: list[CellResult] = field(default_factory=list)
    log: tuple[str, ...] = ()


class Collector:
    """Takes the events of jobs that are made of turns.

    Args:
        on_result: takes each result.
        on_load: takes the name of each variant that is about to be loaded.

    Attributes:
        differ: the places of turns that were planned for another KVM than theirs, so that nothing was run.
    """

    def __init__(self, on_result: OnResult, on_load: OnLoad = lambda name: None) -> None:
        self.differ: list[int] = []
        self._on_result, self._on_load = on_result, on_load
        self._turns: dict[int, _Progress] = {}
        self._steps: list[tuple[Step, int]] = []  # of the job, each with the place of its turn

    def expect(self, place: int, turn: PlannedTurn, steps: Sequence[Step]) -> None:
        """Adds a turn to the job.

        Args:
            place: of its results in the record.
            turn: what is planned.
            steps: what the job does for it.
        """
        self._turns[place] = _Progress(turn)
        self._steps += [(step, place) for step in steps]

    def begin_job(self) -> None:
        """The turns that are added from now on are those of a new job, and so are the events that come."""
        self._steps = []

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of the job."""
        return tuple(step for step, _ in self._steps)

    def take(self, event: Event) -> None:
        """Takes one event.

        Raises:
            UsageError: a result that nobody asked for, or none of a cell that was to run.
        """
        match event:
            case Begin(number) if isinstance(step := self._steps[number][0], Load):
                self._on_load(step.variant)
            case Data(number, data):
                self._data(self._steps[number][1], data)
            case Dmesg(number, lines):
                self._turns[self._steps[number][1]].log += lines
            case End(number) if isinstance(self._steps[number][0], Call):
                place = self._steps[number][1]
                if place not in self.differ:
                    self._add(place, self._turns[place].turn.rest())

    def _data(self, place: int, data: dict[str, Any]) -> None:
        try:
            self._add(place, self._turns[place].turn.take(data))
        except DiffersError:
            self.differ.append(place)

    def _add(self, place: int, results: Iterable[CellResult]) -> None:
        for result in results:
            self._turns[place].results.append(result)
            done = sum(len(each.results) for each in self._turns.values())
            self._on_result(result, done, sum(each.turn.size for each in self._turns.values()))

    def record(
        self, command: Sequence[str], clock: Clock, variants: tuple[VariantId, ...], host: Mapping[str, Any]
    ) -> Record:
        """The record of what was taken.

        Raises:
            ProtocolError: results that contradict themselves.
        """
        turns = [self._turns[place] for place in sorted(self._turns)]
        record = Record(
            tool_version=__version__,
            command=tuple(command),
            when=clock.when(),
            host=dict(host),
            unit=UNIT_EMULATED if host.get("emulated") else UNIT_TSC,
            variants=variants,
            results=tuple(replace(result, dmesg=turn.log) for turn in turns for result in turn.results),
            dmesg=tuple(line for turn in turns for line in turn.log),
            notes=tuple(filter(None, [str(host.get("tsc_problem") or "")])),
        )
        try:
            record.check()
        except UsageError as error:
            raise ProtocolError(str(error)) from error
        return record
