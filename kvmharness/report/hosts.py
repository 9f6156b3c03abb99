"""Several hosts side by side: each cell's outcome on each of them, and who says otherwise than the others."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kvmharness.report.rows import Row, by_cell
from kvmharness.results.verdict import Outcome


@dataclass(frozen=True, slots=True)
class Across:
    """A cell on several hosts.

    Attributes:
        id: the cell's, as the first host that has it labels it.
        outcomes: the worst of its variants' by host; None where it was not asked for.
        apart: the hosts on which it ran and came out otherwise than on most of the others.
    """

    id: str
    outcomes: tuple[Outcome | None, ...]
    apart: tuple[str, ...]


def across(rows: Mapping[str, Sequence[Row]]) -> tuple[Across, ...]:
    """Every cell on every host; nothing where there are no several.

    Args:
        rows: by the host's name, in the order of the columns.
    """
    if len(rows) < 2:
        return ()
    cells = {host: by_cell(own) for host, own in rows.items()}
    keys = dict.fromkeys(key for own in cells.values() for key in own)
    found = []
    for key in keys:
        there = {host: list(own[key].values()) for host, own in cells.items() if key in own}
        outcomes = {host: Outcome.overall([row.outcome for row in own]) for host, own in there.items()}
        found.append(Across(next(iter(there.values()))[0].id, tuple(map(outcomes.get, rows)), _apart(outcomes)))
    return tuple(found)


def _apart(outcomes: Mapping[str, Outcome]) -> tuple[str, ...]:
    ran = {host: outcome for host, outcome in outcomes.items() if outcome is not Outcome.SKIPPED}
    counted = Counter(ran.values()).most_common()
    if len(counted) < 2:
        return ()
    usual = counted[0][0] if counted[0][1] > counted[1][1] else Outcome.PASS  # of two halves, the one that fails
    return tuple(host for host, outcome in ran.items() if outcome is not usual)
