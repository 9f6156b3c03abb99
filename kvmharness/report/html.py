"""The run and its verdict as one self-contained HTML page: no script, no other file, nothing to load."""

import gzip
import shlex
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from importlib.util import find_spec

from kvmharness import __version__
from kvmharness.errors import HostRequirementError
from kvmharness.report import alone, plots, story, words
from kvmharness.report.checklist import cover_lines
from kvmharness.report.commit import commit_lines, telling
from kvmharness.report.exits import ExitTable, exit_table
from kvmharness.report.hosts import across
from kvmharness.report.plots import Panel, panels
from kvmharness.report.rows import Row, ran, rows
from kvmharness.report.tests import Group, groups, outcome_of_runs
from kvmharness.report.text import with_figures
from kvmharness.results import noise as stats
from kvmharness.results.compare import compare_variants
from kvmharness.results.document import written
from kvmharness.results.record import CellKey, Record
from kvmharness.results.verdict import ClaimResult, Outcome, Verdict
from kvmharness.system.shown import shown

TEMPLATE, STYLE = "page.html.j2", "page.css"
LONG_FACT = 160  # characters; longer facts are folded away
FEW_VARIANTS = 4  # that have room side by side: with more of them, those that add a patch each are shown
OWN_CLAIMS = "What the series claims"


@dataclass(frozen=True, slots=True)
class _Trouble:
    """A claim, or cells of a run without a verdict, that fail or are undecided.

    Attributes:
        outcome: of it.
        name: the claim's; empty for cells.
        text: what it is about.
        lines: of evidence, each of which may have several.
        command: that shows it alone; empty where nothing failed.
    """

    outcome: str
    name: str
    text: str
    lines: tuple[str, ...]
    command: str = ""


@dataclass(frozen=True, slots=True)
class _Section:
    """What the page shows of one record."""

    record: Record
    host: str
    heading: str
    steps: list[story.Step]
    variants: list[str]  # that are shown side by side
    telling: list[dict[str, Row]]
    times: dict[tuple[CellKey, str], stats.Comparison]  # of the telling cells, against the first variant
    open_panels: list[Panel]
    more_panels: list[Panel]
    exits: ExitTable
    rows: tuple[Row, ...]
    tests: list[Group]
    facts: list[tuple[str, str]]
    notes: tuple[str, ...]
    log: list[str]


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
        records: the runs, a section of figures each.
        verdict: on them; without it the page is about the runs alone.

    Raises:
        HostRequirementError: jinja2 or matplotlib is not installed.
    """
    check_installed()
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_finalized
    )
    environment.filters |= {
        "amount": words.amount,
        "ticks": words.ticks,
        "percent": words.percent,
        "exits": words.exits,
        "several": words.several,
        "complaint": words.complaint,
    }
    folder = resources.files("kvmharness.report")
    sections = [_section(record, f"r{index}") for index, record in enumerate(records)]
    command = verdict.command if verdict else records[0].command
    name = verdict.series if verdict else story.subject(records[0])
    return environment.from_string(folder.joinpath(TEMPLATE).read_text()).render(
        style=Markup(folder.joinpath(STYLE).read_text()),
        verdict=verdict,
        outcome=(verdict.outcome if verdict else outcome_of_runs(records)).value,
        title=name,
        sentence=story.sentence(records, verdict),
        sections=sections,
        across=across({section.host: section.rows for section in sections}),
        troubles=_of_claims(verdict, records) if verdict else _of_cells(sections),
        holding=_by_group(verdict, Outcome.PASS),
        unchecked=_by_group(verdict, Outcome.SKIPPED),
        mark=plots.mark,
        distinct=words.distinct,
        many=FEW_VARIANTS,
        long_fact=LONG_FACT,
        setup_name=words.setup_name,
        command=[shlex.quote(word) for word in command],
        cover="\n".join(cover_lines(records, verdict)) if verdict else "",
        commit="\n".join(commit_lines(records, verdict)) if records else "",
        download=_download(records, verdict),
        file_name=f"{words.file_name(name)}.json.gz",
        tool_version=__version__,
    )


def _finalized(value: object) -> object:
    """What stands in the page for a value. A plot stays what it is, markup, also where it holds a name of others."""
    if not isinstance(value, str) or (text := shown(value)) is value:
        return value
    return type(value)(text)


def _download(records: Sequence[Record], verdict: Verdict | None) -> str:
    """The record, packed: browsers give up on long addresses."""
    packed = gzip.compress(f"{written(records, verdict)}\n".encode(), mtime=0)
    return f"data:application/gzip;base64,{b64encode(packed).decode()}"


def _of_claims(verdict: Verdict, records: Sequence[Record]) -> list[_Trouble]:
    """Claims that fail, then those that are undecided."""
    told = list(with_figures(verdict.claims))
    found = [
        _Trouble(claim.outcome.value, claim.name, claim.text, figures, alone.of_claim(claim, records, verdict.command))
        for claim, figures in told
        if claim.outcome is Outcome.FAIL
    ]
    return found + [
        _Trouble(claim.outcome.value, claim.name, claim.text, figures)
        for claim, figures in told
        if claim.outcome is Outcome.INCONCLUSIVE
    ]


def _of_cells(sections: Sequence[_Section]) -> list[_Trouble]:
    """All but passes, the gravest first; cells with the same reason stand together."""
    gravity = [Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.SKIPPED]
    together: dict[tuple[int, str], list[tuple[Record, Row]]] = {}
    for section in sections:
        for row in section.rows:
            if row.outcome is not Outcome.PASS:
                together.setdefault((gravity.index(row.outcome), row.why), []).append((section.record, row))
    found = []
    for (grade, why), own in sorted(together.items(), key=lambda each: each[0][0]):
        cells: dict[str, list[str]] = {}
        for _, row in own:
            cells.setdefault(row.id, []).append(row.variant)
        line = ", ".join(f"{id_} ({', '.join(variants)})" for id_, variants in cells.items())
        command = alone.of_row(*own[0]) if gravity[grade] is Outcome.FAIL else ""
        found.append(_Trouble(gravity[grade].value, "", why, (line,), command))
    return found


def _by_group(verdict: Verdict | None, outcome: Outcome) -> dict[str, list[ClaimResult]]:
    """The claims of one outcome, by what they are about."""
    found: dict[str, list[ClaimResult]] = {}
    for claim in verdict.claims if verdict else ():
        if claim.outcome is outcome:
            found.setdefault(claim.group or OWN_CLAIMS, []).append(claim)
    return found


def _section(record: Record, prefix: str) -> _Section:
    all_rows = rows(record)
    every = ran(record)
    growing = [variant.name for variant in story.chain(record) if variant.name in every]
    names = growing if len(every) > FEW_VARIANTS and len(growing) > 1 else every
    plotted = panels(record, all_rows, names, prefix)
    opened = [panel for number, panel in enumerate(plotted) if panel.plain and (panel.effect or not number)]
    facts = [(name.replace("_", " "), words.fact(record, name)) for name in sorted(record.host)]
    chosen = telling(all_rows, names)
    return _Section(
        record=record,
        host=words.host(record),
        heading=f"{words.kernel(record)}, {words.machine(record)}",
        steps=story.steps(record),
        variants=names,
        telling=chosen,
        times=_times(record, names, {key for cells in chosen for key in (row.key for row in cells.values())}),
        open_panels=opened,
        more_panels=[panel for panel in plotted if panel not in opened],
        exits=exit_table(all_rows, every),
        rows=all_rows,
        tests=groups(record.tests),
        facts=[(name, value) for name, value in facts if value],
        notes=words.notes(record),
        log=words.kernel_said(record),
    )


def _times(record: Record, names: Sequence[str], keys: set[CellKey]) -> dict[tuple[CellKey, str], stats.Comparison]:
    """What is noise and what is not, of the cells *keys* under each variant against the first."""
    part = replace(record, results=tuple(result for result in record.results if result.key in keys))
    base, *others = names
    compared = [compare_variants(part, base, name, tolerance=words.tolerance(record)) for name in others if keys]
    return {(cell.key, cell.variant_b): cell.time for one in compared for cell in one.cells if cell.time}
