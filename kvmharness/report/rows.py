"""A record condensed to what tables and plots show: one row a cell and variant, all its turns together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kvmharness.cells.cell import Cell
from kvmharness.cells.labels import cell_of, label, letter
from kvmharness.measure.clock import UNIT_EMULATED
from kvmharness.results import noise as stats
from kvmharness.results.record import CellKey, CellResult, Record
from kvmharness.results.verdict import Outcome

LOADS = "kvm_mmu_load"
SWITCHES = "kvm_mmu_new_pgd"

CACHED_ROOTS = 4  # the current root and KVM_MMU_NUM_PREV_ROOTS previous ones


@dataclass(frozen=True, slots=True)
class Row:
    """One cell under one variant. Figures that the host did not offer are None, never zero."""

    key: CellKey
    id: str  # the cell's label
    letter: str  # of its set-up: (a) is (e) on an L0 without EPT
    cell: Cell
    variant: str
    round_trips: int  # counted ones, all turns
    exits: Mapping[str, float]  # per round trip, by reason, most frequent first
    loads: int | None  # over round_trips, as the next three
    loads_predicted: int | None
    switches: int | None
    switches_predicted: int | None
    ticks: float | None  # typical per round trip, in the record's unit
    probes_checked: int
    probe_failures: int
    missing: Mapping[str, str]
    skipped: str | None
    error: str | None

    @property
    def family(self) -> str:
        """What the row is plotted with: set-up and marks without the numbers, for example ``a/pcid`` or ``c/AABB``."""
        _, *marks = self.id.split("/")
        return "/".join([self.letter, *marks])

    @property
    def shape(self) -> str:
        """The numbers alone: ``3x3``, ``5``."""
        return self.cell.shape.partition("/")[0]

    @property
    def roots(self) -> int:
        """How many roots compete for the cache in which the cell's rotation takes place."""
        return self.cell.roots

    @property
    def exits_total(self) -> float | None:
        """All exits per round trip."""
        return sum(self.exits.values()) if self.exits else None

    @property
    def as_predicted(self) -> bool | None:
        """Whether the counted root loads equal the oracle's exactly; None where one of them is not known."""
        if self.loads is None or self.loads_predicted is None:
            return None
        return self.loads == self.loads_predicted

    @property
    def outcome(self) -> Outcome:
        """What the row says by itself, without comparison."""
        if self.skipped:
            return Outcome.SKIPPED
        if self.error or self.probe_failures or self.as_predicted is False:
            return Outcome.FAIL
        return Outcome.INCONCLUSIVE if self.as_predicted is None else Outcome.PASS

    @property
    def why(self) -> str:
        """One line for everything but a pass."""
        if self.skipped or self.error:
            return self.skipped or self.error or ""
        if self.probe_failures:
            return f"{self.probe_failures} of {self.probes_checked} probe reads saw a stale translation"
        if self.as_predicted is False:
            return f"{self.loads} root loads counted, {self.loads_predicted} predicted"
        if self.as_predicted is None:
            unknown = "no prediction for this kernel" if self.loads is not None else "not counted"
            return f"root loads not judged: {self.missing.get(LOADS, unknown)}"
        return ""

    def per_round_trip(self, total: int | None) -> float | None:
        """*total* over the counted round trips, for one of them."""
        return None if total is None or not self.round_trips else total / self.round_trips


def rows(record: Record) -> tuple[Row, ...]:
    """The rows of *record*, cell by cell in the order of the run, the variants of a cell in the record's order."""
    order = [variant.name for variant in record.variants]
    turns: dict[CellKey, dict[str, list[CellResult]]] = {}
    for result in record.results:
        turns.setdefault(result.key, {}).setdefault(result.variant, []).append(result)
    return tuple(
        _row(record, by_variant[name]) for by_variant in turns.values() for name in order if name in by_variant
    )


def ran(record: Record) -> list[str]:
    """The variants that have results, in the record's order; all of them where none has."""
    there = {result.variant for result in record.results}
    names = [variant.name for variant in record.variants]
    return [name for name in names if name in there] or names


def by_cell(all_rows: Iterable[Row]) -> dict[CellKey, dict[str, Row]]:
    """Rows regrouped: for each cell its row under each variant."""
    cells: dict[CellKey, dict[str, Row]] = {}
    for row in all_rows:
        cells.setdefault(row.key, {})[row.variant] = row
    return cells


def _row(record: Record, turns: list[CellResult]) -> Row:
    first = turns[0]
    cell = cell_of(first)
    run = [turn for turn in turns if turn.skipped is None and turn.error is None]
    samples = [ticks for turn in run for ticks in turn.ticks_per_round_trip]
    trips = sum(turn.round_trips for turn in run)
    exits = _sums(turn.exits for turn in run)
    predictions = [turn.predicted for turn in run if turn.predicted]
    predicted = len(predictions) == len(run) and run != []
    errors = [f"{turn.error.type}: {turn.error.message}" for turn in turns if turn.error]
    return Row(
        key=first.key,
        id=label(cell, record.host),
        letter=letter(cell, record.host),
        cell=cell,
        variant=first.variant,
        round_trips=trips,
        exits={name: count / trips for name, count in sorted(exits.items(), key=lambda e: (-e[1], e[0])) if trips},
        loads=_total(run, LOADS),
        loads_predicted=sum(prediction.loads for prediction in predictions) if predicted else None,
        switches=_total(run, SWITCHES),
        switches_predicted=sum(prediction.switches for prediction in predictions) if predicted else None,
        ticks=stats.typical(samples, exact=record.unit == UNIT_EMULATED) if samples else None,
        probes_checked=sum(turn.probes.checked for turn in turns),
        probe_failures=sum(turn.probes.failures for turn in turns),
        missing={name: why for turn in turns for name, why in turn.missing.items()},
        skipped=first.skipped if not run and not errors else None,
        error=errors[0] if errors else None,
    )


def _sums(maps: Iterable[Mapping[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for counts in maps:
        for name, count in counts.items():
            sums[name] = sums.get(name, 0) + count
    return sums


def _total(run: list[CellResult], name: str) -> int | None:
    """Sum over the turns; one turn without the count makes the sum unknown, not smaller."""
    if not run or any(name not in turn.counts for turn in run):
        return None
    return sum(turn.counts[name] for turn in run)
