"""Record against record, or variant against variant, as text and as JSON."""

from math import isfinite
from textwrap import wrap

from kvmharness.report import words
from kvmharness.results.compare import CellComparison, RecordComparison
from kvmharness.results.verdict import Outcome


def comparison_lines(comparison: RecordComparison, *, width: int = 100) -> list[str]:
    """One line a cell with times, change, noise floor and outcome; what is not a pass says why below it."""
    lines = [piece for warning in comparison.warnings for piece in _wrapped(f"warning: {warning}", width, 4)]
    table = [("cell", "A -> B", "time A", "time B", "change", "noise", "outcome"), *map(_cells, comparison.cells)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    whys = ["", *(_why(cell) for cell in comparison.cells)]
    for line, why in zip(table, whys, strict=True):
        texts = [
            text.ljust(wide) if index in (0, 1, 6) else text.rjust(wide)
            for index, (text, wide) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(texts).rstrip())
        lines += _wrapped("    " + why, width, 4) if why else []
    lines += [piece for name, title in comparison.titles.items() for piece in _wrapped(f"{name}: {title}", width, 4)]
    tally = [
        f"{count} {outcome.value}"
        for outcome in Outcome
        if (count := sum(cell.outcome is outcome for cell in comparison.cells))
    ]
    return [*lines, f"time in {comparison.unit}; {', '.join(tally)}: {comparison.outcome.value}"]


def comparison_json(comparison: RecordComparison) -> dict[str, object]:
    """The comparison as plain JSON values; counts per round trip as exact fractions in text."""
    return {
        "outcome": comparison.outcome.value,
        "unit": comparison.unit,
        "warnings": list(comparison.warnings),
        "cells": [_cell_json(cell) for cell in comparison.cells],
    }


def _cell_json(cell: CellComparison) -> dict[str, object]:
    time: dict[str, object] | None = None
    if cell.time:
        time = {
            "outcome": cell.time.outcome.value,
            "a": cell.time.median_a,
            "b": cell.time.median_b,
            "change": cell.time.change,
            "interval": [_finite(end) for end in cell.time.interval],
            "p_value": cell.time.p_value,
            "noise": _finite(cell.time.noise),
            "detectable": _finite(cell.time.detectable),
        }
    return {
        "id": cell.id,
        "params": dict(cell.key[1]),
        "variants": [cell.variant_a, cell.variant_b],
        "outcome": cell.outcome.value,
        "why": cell.why,
        "changed": [{"name": change.name, "a": str(change.a), "b": str(change.b)} for change in cell.changed],
        "unknown": list(cell.unknown),
        "time": time,
    }


def _finite(value: float) -> float | None:
    """JSON knows no infinity, which is what nothing but a single run can say about noise."""
    return value if isfinite(value) else None


def _cells(cell: CellComparison) -> tuple[str, ...]:
    time = cell.time
    variants = cell.variant_a if cell.variant_a == cell.variant_b else f"{cell.variant_a} -> {cell.variant_b}"
    if time is None:
        return (cell.id, variants, "-", "-", "-", "-", cell.outcome.value)
    return (
        cell.id,
        variants,
        words.ticks(time.median_a),
        words.ticks(time.median_b),
        words.percent(time.median_b, time.median_a),
        f"{time.noise:.1%}" if isfinite(time.noise) else "unknown",
        cell.outcome.value,
    )


def _why(cell: CellComparison) -> str:
    """Nothing for a plain pass: its figures are in the row."""
    return cell.why if cell.outcome is not Outcome.PASS or cell.changed else ""


def _wrapped(text: str, width: int, indent: int) -> list[str]:
    lead = " " * (len(text) - len(text.lstrip()))
    return wrap(
        text.strip(),
        width,
        initial_indent=lead,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
