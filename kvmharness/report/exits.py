"""Exits by reason as a table: a line for each set-up and variant, which are not thrown together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvmharness.report import words
from kvmharness.report.rows import Row


@dataclass(frozen=True, slots=True)
class ExitTable:
    """Exits per round trip.

    Attributes:
        reasons: the most frequent first.
        lines: set-up, variant, and the figure of each reason; a range where cells of the set-up differ.
    """

    reasons: list[str]
    lines: list[tuple[str, str, list[str]]]


def exit_table(all_rows: Iterable[Row], variants: Sequence[str]) -> ExitTable:
    """The table of a record's rows."""
    families: dict[str, dict[str, list[Row]]] = {}
    totals: dict[str, float] = {}
    for row in all_rows:
        if row.exits:
            families.setdefault(row.family, {}).setdefault(row.variant, []).append(row)
        for reason, count in row.exits.items():
            if count >= words.SHOWN_EXITS:
                totals[reason] = totals.get(reason, 0.0) + count
    reasons = sorted(totals, key=lambda reason: (-totals[reason], reason))
    return ExitTable(
        reasons,
        [
            (family, name, [_range([row.exits.get(reason, 0.0) for row in members[name]]) for reason in reasons])
            for family, members in families.items()
            for name in variants
            if name in members
        ],
    )


def _range(values: Sequence[float]) -> str:
    low, high = words.amount(min(values)), words.amount(max(values))
    return low if low == high else f"{low}–{high}"
