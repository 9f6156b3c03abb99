"""The run as a table for a terminal, a file or a mail: one row a cell and variant."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from textwrap import wrap
from typing import TYPE_CHECKING, TextIO

from kvmharness.cells.cell import Cell
from kvmharness.report import alone, words
from kvmharness.report.rows import LOADS, Row, rows
from kvmharness.results.record import Record
from kvmharness.results.verdict import ClaimResult, Outcome, Verdict, listed
from kvmharness.system.shown import colours_wanted, shown

if TYPE_CHECKING:
    from rich.console import Console

EXITS = "exits by reason"
COLUMNS = ("cell", "variant", "n1", "n2/E", "RTs", "exits", "loads", "oracle", "switches", "time", "stale", EXITS)
PARTIAL = "partial"
ALONE = "  this alone: "
LEFT = ("cell", "variant", EXITS)
# What a narrow terminal does without, in this order: the id has the numbers too, and the rest is in the JSON.
DROPPED = ((EXITS,), ("n1", "n2/E"), ("RTs",), ("switches",))


def run_lines(record: Record, *, width: int = 100) -> list[str]:
    """The record as plain lines of at most *width* columns where that can be done.

    Where the exits by reason have no room in the rows, they stand under the table, once for all cells with the same.
    """
    all_rows = rows(record)
    names, table = _table(all_rows, width)
    widths = _widths(names, table)
    lines = [*headline(record)]
    for line in (names, *table) if table else ():
        columns = zip(line, widths, names, strict=True)
        lines.append("  ".join(_aligned(text, wide, name) for text, wide, name in columns).rstrip())
    for remark in _below(record, all_rows, names):
        lines += _folded(remark, width)
    return lines


def _folded(remark: str, width: int) -> list[str]:
    """In lines of at most so many columns, but for a command, which is there to be pasted."""
    if remark.startswith(ALONE):
        return [remark]
    return wrap(remark, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def print_run(record: Record, file: TextIO | None = None) -> None:
    """Print the record: a rich table on a terminal when rich is installed, else :func:`run_lines`."""
    out = file or sys.stdout
    if out.isatty():
        try:
            from rich.console import Console
        except ImportError:
            pass  # the plain lines say the same
        else:
            # By itself rich keeps bold without colours.
            _print_rich(record, Console(file=out, color_system="auto" if colours_wanted() else None))
            return
    print(shown("\n".join(run_lines(record))), file=out)


def headline(record: Record) -> list[str]:
    """Host, kernel and unit: without them no figure means anything."""
    return [
        f"{words.kernel(record)}, {words.machine(record)}",
        f"Figures per round trip (RT); time in {record.unit}",
    ]


def remarks(record: Record, all_rows: Sequence[Row]) -> list[str]:
    """What the figures alone do not say: failures, skips and their reasons, sources missing, dmesg, the sum."""
    lines = []
    for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.SKIPPED):
        judged = [row for row in all_rows if row.outcome is outcome]
        for why, group in groupby(sorted(judged, key=_why), key=_why):
            own = list(group)
            lines.append(f"{outcome.value}: {why}: {_listing(own)}")
            lines += [f"{ALONE}{alone.of_row(record, own[0])}"] if outcome is Outcome.FAIL else []
    missing: dict[str, dict[str, None]] = {}
    for row in all_rows:
        for name, why in row.missing.items():
            missing.setdefault(why, {})[name] = None
    lines += [f"not counted: {', '.join(names)}: {why}" for why, names in missing.items()]
    said = Counter(words.kernel_said(record))
    lines += [f"dmesg: {line}{f' ({count} times)' if count > 1 else ''}" for line, count in said.items()]
    lines += words.kernel_reports(record)
    lines += [f"{PARTIAL}: {record.partial}"] if record.partial else []
    lines += [f"note: {line}" for line in words.notes(record)]
    lines += [f"{name}: {title}" for name, title in record.titles.items()]
    tally = [
        f"{count} {outcome.value}" for outcome in Outcome if (count := sum(row.outcome is outcome for row in all_rows))
    ]
    return [*lines, f"{len(all_rows)} rows: {', '.join(tally) or 'nothing was run'}"]


def _why(row: Row) -> str:
    """As the row says it; why something was not counted is said for all rows at once."""
    uncounted = row.outcome is Outcome.INCONCLUSIVE and LOADS in row.missing
    return f"root loads not judged: {LOADS} was not counted" if uncounted else row.why


def verdict_lines(verdict: Verdict, records: Sequence[Record] = ()) -> list[str]:
    """The headline, then the claims: one figure of each that holds, all of each that does not; a reason only once.

    What fails ends with the command that shows it alone, on the host of *records* that it failed on.
    """
    width = max((len(claim.outcome.value) for claim in verdict.claims), default=0)
    lines = [verdict.headline, ""]
    for claim, figures in with_figures(verdict.claims):
        lines.append(f"{claim.outcome.value:{width}}  {claim.name}: {claim.text}")
        lines += [f"{'':{width}}    {line}" for figure in figures for line in figure.splitlines()]
        if claim.outcome is Outcome.FAIL and (command := alone.of_claim(claim, records, verdict.command)):
            lines.append(f"{'':{width}}  {ALONE}{command}")
    return lines


def with_figures(claims: Iterable[ClaimResult]) -> Iterator[tuple[ClaimResult, tuple[str, ...]]]:
    """Each claim with the figures to show: why something is not known is said where it first matters."""
    said: dict[str, str] = {}
    for claim in claims:
        if claim.outcome is Outcome.PASS:
            yield claim, claim.figures[:1]
        elif claim.outcome is Outcome.FAIL:
            yield claim, claim.figures
        else:
            new = tuple(figure for figure in claim.figures if figure not in said)
            first = next((said[figure] for figure in claim.figures if figure in said), "")
            said |= dict.fromkeys(new, claim.name)
            yield claim, (*new, *([f"as for {first}"] if first else []))


def remark_lines(verdict: Verdict, *, width: int = 100) -> list[str]:
    """What stands below the claims: the patches, what is better, what was waived, and what was not tested."""
    lines = []
    for title, told in verdict.remarks.items():
        lines += ["", f"{title}:"]
        lines += [piece for line in told for piece in wrap(line, width, initial_indent="  ", subsequent_indent="    ")]
    return lines


def _table(all_rows: Sequence[Row], width: int) -> tuple[list[str], list[list[str]]]:
    """The names of the columns that fit into *width*, and the lines below them."""
    full = [_cells(row) for row in all_rows]
    kept = list(COLUMNS)
    for group in ((), *DROPPED):
        kept = [name for name in kept if name not in group]
        table = [[line[name] for name in kept] for line in full]
        if sum(_widths(kept, table)) + 2 * (len(kept) - 1) <= width:
            break
    return kept, table


def _cells(row: Row) -> dict[str, str]:
    mark = "" if row.as_predicted is not False else "! "
    return {
        "cell": row.id,
        "variant": row.variant,
        "n1": str(row.cell.host_cr3s),
        "n2/E": _second(row.cell),
        "RTs": str(row.round_trips or "-"),
        "exits": words.amount(row.exits_total),
        "loads": mark + words.amount(row.per_round_trip(row.loads)),
        "oracle": words.amount(row.per_round_trip(row.loads_predicted)),
        "switches": words.amount(row.per_round_trip(row.switches)),
        "time": words.ticks(row.ticks),
        "stale": str(row.probe_failures) if row.probes_checked else "-",
        EXITS: words.exits(row.exits),
    }


def _second(cell: Cell) -> str:
    """What rotates besides n1: EPTPs where there are several, else GUEST_CR3s."""
    return str(cell.eptps if "eptps" in cell.setup.row.rotates else cell.guest_cr3s) if cell.nested else "-"


def _widths(names: Sequence[str], table: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(names, *table, strict=True)]


def _aligned(text: str, width: int, column: str) -> str:
    return text.ljust(width) if column in LEFT else text.rjust(width)


def _below(record: Record, all_rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    return ([] if EXITS in names else _exits_below(all_rows)) + remarks(record, all_rows)


def _exits_below(all_rows: Sequence[Row]) -> list[str]:
    profiles: dict[str, list[Row]] = {}
    for row in all_rows:
        if row.exits:
            profiles.setdefault(words.exits(row.exits), []).append(row)
    return [f"exits: {profile}: {_listing(group)}" for profile, group in profiles.items()]


def _listing(group: Iterable[Row]) -> str:
    """The cells' ids, each once; a long list is cut."""
    return listed(list(dict.fromkeys(row.id for row in group)))


def _print_rich(record: Record, console: "Console") -> None:
    from rich.table import Table

    all_rows = rows(record)
    names, lines = _table(all_rows, console.width)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, justify="left" if name in LEFT else "right", no_wrap=True)
    for row, line in zip(all_rows, lines, strict=True):
        table.add_row(*map(shown, line), style="red" if row.outcome is Outcome.FAIL else None)
    console.print(shown("\n".join(headline(record))), markup=False, highlight=False)
    console.print(table)
    for remark in _below(record, all_rows, names):
        style = "red" if remark.startswith((Outcome.FAIL.value, "dmesg", PARTIAL)) else None
        console.print(shown(remark), markup=False, highlight=False, style=style)
