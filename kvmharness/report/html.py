"""The run and its verdict as one self-contained HTML page: no script, no other file, nothing to load."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from importlib.util import find_spec

from kvmharness import __version__
from kvmharness.errors import HostRequirementError
from kvmharness.report import words
from kvmharness.report.checklist import cover_lines
from kvmharness.report.commit import commit_lines, telling
from kvmharness.report.plots import MARKERS, Panel, panels
from kvmharness.report.rows import Row, rows
from kvmharness.report.tests import Group, groups, outcome_of_runs
from kvmharness.results import noise as stats
from kvmharness.results.compare import compare_variants
from kvmharness.results.record import CellKey, Record
from kvmharness.results.verdict import Outcome, Verdict
from kvmharness.system.shown import shown

TEMPLATE = "page.html.j2"
LONG_FACT = 160  # characters; longer facts are folded away


@dataclass(frozen=True, slots=True)
class _Section:
    """What the page shows of one record."""

    record: Record
    heading: str
    variants: list[str]
    telling: list[dict[str, Row]]
    times: dict[tuple[CellKey, str], stats.Comparison]  # of the telling cells, against the first variant
    open_panels: list[Panel]
    more_panels: list[Panel]
    exits: "_ExitTable"
    rows: tuple[Row, ...]
    troubles: list[tuple[str, str, str]]  # outcome, why, the cells it holds for
    tests: list[Group]
    facts: list[tuple[str, str]]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _ExitTable:
    """Exits per round trip by reason: for each family of cells the same figure everywhere, or its range."""

    reasons: list[str]
    families: list[tuple[str, list[str]]]


def check_installed() -> None:
    """Refuses to begin what could not be shown.

    Raises:
        HostRequirementError: jinja2 or matplotlib is not installed.
    """
    for name in ("jinja2", "matplotlib"):
        if find_spec(name) is None:
            raise HostRequirementError(
                f"the HTML report needs {name}, which is not installed",
                "pip install 'kvmharness[report]', or ask for another format",
            )


def page(records: Sequence[Record], verdict: Verdict | None = None) -> str:
    """The page.

    Args:
        records: the runs, one section each.
        verdict: shown first, with its claims; without it the page is about the runs alone.

    Raises:
        HostRequirementError: jinja2 or matplotlib is not installed.
    """
    check_installed()
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_finalized
    )
    environment.filters |= {
        "amount": words.amount,
        "ticks": words.ticks,
        "percent": words.percent,
        "exits": words.exits,
    }
    source = resources.files("kvmharness.report").joinpath(TEMPLATE).read_text()
    sections = [_section(record, f"r{index}") for index, record in enumerate(records)]
    names = list(dict.fromkeys(name for section in sections for name in section.variants))
    return environment.from_string(source).render(
        verdict=verdict,
        outcome=(verdict.outcome if verdict else outcome_of_runs(records)).value,
        title=verdict.series if verdict else "KVM run",
        sections=sections,
        variants=names,
        markers=len(MARKERS),
        long_fact=LONG_FACT,
        setup_name=words.setup_name,
        command=[shlex.quote(word) for word in (verdict.command if verdict else records[0].command)],
        cover="\n".join(cover_lines(records, verdict)) if verdict else "",
        commit="\n".join(commit_lines(records, verdict)) if records else "",
        tool_version=__version__,
    )


def _finalized(value: object) -> object:
    """What stands in the page for a value. A plot stays what it is, markup, also where it holds a name of others."""
    if not isinstance(value, str) or (text := shown(value)) is value:
        return value
    return type(value)(text)


def _section(record: Record, prefix: str) -> _Section:
    all_rows = rows(record)
    names = [variant.name for variant in record.variants]
    plotted = panels(record, all_rows, prefix)
    facts = [(name.replace("_", " "), words.fact(record, name)) for name in record.host]
    chosen = telling(all_rows, names)
    return _Section(
        record=record,
        heading=f"{words.kernel(record)}, {words.machine(record)}",
        variants=names,
        telling=chosen,
        times=_times(record, {key for cells in chosen for key in (row.key for row in cells.values())}),
        open_panels=[panel for panel in plotted if panel.plain],
        more_panels=[panel for panel in plotted if not panel.plain],
        exits=_exit_table(all_rows),
        rows=all_rows,
        troubles=_troubles(all_rows),
        tests=groups(record.tests),
        facts=[(name, value) for name, value in facts if value],
        notes=words.notes(record),
    )


def _troubles(all_rows: Iterable[Row]) -> list[tuple[str, str, str]]:
    """Everything but passes, the gravest first; cells with the same reason stand together."""
    gravity = [Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.SKIPPED]
    groups: dict[tuple[int, str], dict[str, list[str]]] = {}
    for row in all_rows:
        if row.outcome is not Outcome.PASS:
            cells = groups.setdefault((gravity.index(row.outcome), row.why), {})
            cells.setdefault(row.id, []).append(row.variant)
    return [
        (gravity[grade].value, why, ", ".join(f"{id_} ({', '.join(variants)})" for id_, variants in cells.items()))
        for (grade, why), cells in sorted(groups.items(), key=lambda group: group[0][0])
    ]


def _times(record: Record, keys: set[CellKey]) -> dict[tuple[CellKey, str], stats.Comparison]:
    """What is noise and what is not, of the cells *keys* under each variant against the first."""
    part = replace(record, results=tuple(result for result in record.results if result.key in keys))
    base, *others = [variant.name for variant in record.variants]
    compared = [compare_variants(part, base, name) for name in others if keys]
    return {(cell.key, cell.variant_b): cell.time for one in compared for cell in one.cells if cell.time}


def _exit_table(all_rows: Iterable[Row]) -> _ExitTable:
    families: dict[str, list[Row]] = {}
    for row in all_rows:
        if row.exits:
            families.setdefault(row.family, []).append(row)
    totals: dict[str, float] = {}
    for members in families.values():
        for row in members:
            for reason, count in row.exits.items():
                if count >= words.SHOWN_EXITS:
                    totals[reason] = totals.get(reason, 0.0) + count
    reasons = sorted(totals, key=lambda reason: (-totals[reason], reason))
    return _ExitTable(
        reasons,
        [
            (family, [_range([row.exits.get(reason, 0.0) for row in members]) for reason in reasons])
            for family, members in families.items()
        ],
    )


def _range(values: Sequence[float]) -> str:
    low, high = words.amount(min(values)), words.amount(max(values))
    return low if low == high else f"{low}–{high}"
