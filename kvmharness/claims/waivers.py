"""What a series asks not to be judged by: ``[[waive]]`` tables, each a row of the safety net, cells, and a reason::

    [[waive]]
    row = "no-more-time"
    cells = "c:*/ABAB*"
    reason = "The current root is tried first: some instructions where it is never the right one."

A waiver hides nothing: the verdict prints it, with what would have failed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from kvmharness.claims.findings import Finding
from kvmharness.claims.table import Table
from kvmharness.results.verdict import Outcome

KEYS = {
    "row": "the name of a row of the safety net",
    "cells": "patterns of cells",
    "variants": "patterns of variants; all without it",
    "reason": "why it is right, which the verdict prints",
}
"""What a ``[[waive]]`` may say -> what that means."""


@dataclass(frozen=True, slots=True)
class Waiver:
    """One ``[[waive]]`` table.

    Attributes:
        row: the name of the safety net's row.
        cells: patterns of cell labels.
        variants: patterns of variants; all without.
        reason: why it is right.
    """

    row: str
    cells: tuple[str, ...]
    variants: tuple[str, ...]
    reason: str

    def covers_cell(self, label: str) -> bool:
        """Whether it is about the cell of this label."""
        return any(fnmatchcase(label, pattern) for pattern in self.cells)

    def covers(self, row: str, finding: Finding) -> bool:
        """Whether it is about this finding of that row."""
        return (
            self.row == row
            and self.covers_cell(finding.cell)
            and any(fnmatchcase(finding.variant, pattern) for pattern in self.variants)
        )


def parse_waivers(tables: Iterable[Mapping[str, Any]], rows: Iterable[str], origin: str) -> tuple[Waiver, ...]:
    """The waivers of a series.

    Args:
        tables: its ``[[waive]]`` tables.
        rows: names of the rows that can be waived.
        origin: the file, for messages.

    Raises:
        ClaimError: no such row, no reason, no cells, or a word that is not known.
    """
    return tuple(_waiver(Table(each, f"{origin}, waiver {n}"), sorted(rows)) for n, each in enumerate(tables, 1))


def _waiver(table: Table, rows: list[str]) -> Waiver:
    table.refuse_unknown(KEYS)
    return Waiver(
        row=table.word("row", rows),
        cells=table.cells(),
        variants=table.texts("variants", "*"),
        reason=table.text("reason"),
    )


class Waived:
    """The waivers of a series at work.

    Args:
        waivers: all of them.
    """

    def __init__(self, waivers: Iterable[Waiver]) -> None:
        self._used: dict[Waiver, list[str]] = {waiver: [] for waiver in waivers}

    def applied(self, row: str, finding: Finding) -> Finding:
        """The finding, not to be judged by if a waiver says so."""
        if finding.outcome is not Outcome.FAIL:
            return finding
        for waiver, lines in self._used.items():
            if waiver.covers(row, finding):
                lines.append(finding.line)
                line = f"waived: {finding.line}"
                return Finding(Outcome.SKIPPED, finding.cell, line, finding.variant)
        return finding

    def lines(self) -> tuple[str, ...]:
        """Each waiver with its reason and what it let pass."""
        return tuple(
            f"{waiver.row} in {', '.join(waiver.cells)}: {waiver.reason} "
            + (f"({len(lines)} waived; first: {lines[0]})" if lines else "(nothing would have failed)")
            for waiver, lines in self._used.items()
        )
