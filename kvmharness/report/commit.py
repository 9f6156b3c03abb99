"""The evidence as a commit message wants it: variants against set-ups, at most 72 columns, with what reproduces it."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from textwrap import wrap

from kvmharness.cells.params import tdp_off
from kvmharness.report import words
from kvmharness.report.rows import CACHED_ROOTS, Row, by_cell, ran, rows
from kvmharness.report.text import remark_lines
from kvmharness.results.record import Record
from kvmharness.results.verdict import Verdict

COLUMNS = 72
GAP = 2
_LEAST_SHARE = 0.01  # of a time: less moves by itself

Cells = dict[str, Row]  # one cell's rows by variant


def commit_lines(records: Sequence[Record], verdict: Verdict | None = None, cells: Sequence[str] = ()) -> list[str]:
    """The table for a commit message, one part for each host that the records come from.

    Args:
        records: the runs, at least one.
        verdict: when given, its outcome and its command end the text.
        cells: ids of the cells to show, in this order; the telling ones without.
    """
    units = " / ".join(dict.fromkeys(record.unit for record in records))
    lines = wrap(f"Root loads (kvm_mmu_load) and time, in {units}, per round trip L1 -> L2 -> L1.", COLUMNS)
    legend: dict[str, dict[str, None]] = {}  # by set-up; vendors have their own words
    shown: list[Cells] = []
    for record in records:
        names = ran(record)
        if verdict:
            names = [name for name in verdict.variants if name in names] or names
        chosen = _chosen(record, cells, names)
        lines += ["", *wrap(f"{words.kernel(record)}, {words.machine(record)}:", COLUMNS), ""]
        lines += _tables(chosen, names) if chosen else ["  nothing to show"]
        for row in (row for members in chosen for row in members.values()):
            legend.setdefault(row.letter, {})[words.setup_name(record, row.letter)] = None
        shown += chosen
    lines += ["", *_legend(legend, shown)]
    if verdict:
        lines += remark_lines(verdict, width=COLUMNS)
        lines += ["", *wrap(verdict.headline, COLUMNS, subsequent_indent="  ")]
    return [*lines, "", "Reproduce with:", *_command(verdict.command if verdict else records[0].command)]


def answered_lines(records: Sequence[Record], verdict: Verdict) -> list[str]:
    """The same for a verdict, which may be all that there is."""
    return commit_lines(records, verdict) if records else ["No figures: a variant took the host down."]


def telling(all_rows: Iterable[Row], names: Sequence[str]) -> list[Cells]:
    """Of each set-up the cell that the variants change most, the largest effect first; then the controls.

    These are the smallest cell of each such set-up, and a cell of each set-up where nothing changes. Cells with special
    marks count only where there are no others.
    """
    everywhere = [cells for cells in by_cell(all_rows).values() if set(names) <= set(cells)]
    families: dict[str, list[Cells]] = {}
    for cells in [cells for cells in everywhere if _is_plain(cells)] or everywhere:
        families.setdefault(_first(cells).family, []).append(cells)
    for members in [members for family, members in families.items() if "/" in family]:
        if not (first := _first(members[0])).cell.nested:
            families.pop(first.letter, None)  # where L0 has EPT, MOV-CR3 does not even exit
    changed, controls = [], []
    for members in families.values():
        best = max(members, key=lambda cells: (_effect(cells, names), _interest(cells, names)))
        moves = _effect(best, names) > (0.0, 0.0)
        if moves:
            changed.append(best)
        if not moves or best is not members[0]:
            controls.append(members[0] if moves else best)
    return sorted(changed, key=lambda cells: _effect(cells, names), reverse=True) + controls


def _is_plain(cells: Cells) -> bool:
    """Whether it has no marks, and no parameters but those that take EPT or NPT from L0."""
    cell = _first(cells).cell
    return not cell.marks and all(tdp_off(dict([param])) for param in cell.params)


def _first(cells: Cells) -> Row:
    """One of its rows, for what they have in common."""
    return next(iter(cells.values()))


def _effect(cells: Cells, names: Sequence[str]) -> tuple[float, float]:
    """How far the variants lie apart in root loads; between equals, in time, as a share of it."""
    loads = [cells[name].per_round_trip(cells[name].loads) or 0.0 for name in names]
    times = [ticks for name in names if (ticks := cells[name].ticks)]
    share = round(max(times) / min(times) - 1, 3) if times else 0.0  # as far as it is shown
    return max(loads) - min(loads), share if share >= _LEAST_SHARE else 0.0


def _interest(cells: Cells, names: Sequence[str]) -> tuple[float, bool]:
    """Where nothing changes: how many root loads there are, and if there could be any."""
    loads = [cells[name].per_round_trip(cells[name].loads) or 0.0 for name in names]
    return max(loads), cells[names[0]].roots > CACHED_ROOTS


def _chosen(record: Record, ids: Sequence[str], names: Sequence[str]) -> list[Cells]:
    all_rows = rows(record)
    if not ids:
        return telling(all_rows, names)
    known = {id_: cells for cells in by_cell(all_rows).values() for id_ in (_first(cells).cell.id, _first(cells).id)}
    return [known[id_] for id_ in ids if id_ in known]


def _tables(chosen: Sequence[Cells], names: Sequence[str]) -> list[str]:
    """Loads and times side by side where 72 columns allow it, else in as many pieces below each other as it takes."""
    stub = ["", "", *(_first(cells).id for cells in chosen)]
    stub_width = max(map(len, stub))
    lines: list[str] = []
    table = stub
    for block in _blocks(chosen, names, COLUMNS - stub_width - GAP):
        if table is not stub and len(table[1]) + GAP + len(block[1]) > COLUMNS:
            lines += [*(line.rstrip() for line in table), ""]
            table = stub
        table = [f"{left:{stub_width}}{'':{GAP}}{right}" for left, right in zip(table, block, strict=True)]
    return lines + [line.rstrip() for line in table]


def _blocks(chosen: Sequence[Cells], names: Sequence[str], width: int) -> list[list[str]]:
    """Root loads by variant and time by variant, as text blocks of equal height and at most *width* columns."""
    metrics: tuple[tuple[str, Callable[[Cells, str], str]], ...] = (
        ("root loads", lambda cells, name: _loads(cells.get(name))),
        ("time", lambda cells, name: _time(cells, name, names[0])),
    )
    blocks = []
    for title, figure in metrics:
        columns = [[name[: width // 2], *(figure(cells, name) for cells in chosen)] for name in names]
        widths = [max(map(len, column)) for column in columns]
        start = 0
        while start < len(columns):
            end = start + 1
            while end < len(columns) and sum(widths[start : end + 1]) + GAP * (end - start) <= width:
                end += 1
            lines = [
                (" " * GAP).join(text.rjust(wide) for text, wide in zip(line, widths[start:end], strict=True))
                for line in zip(*columns[start:end], strict=True)
            ]
            wide = max(len(title), len(lines[0]))
            blocks.append([title.center(wide, "-")[:wide], *(line.rjust(wide) for line in lines)])
            start = end
    return blocks


def _loads(row: Row | None) -> str:
    if row is None:
        return "-"
    if row.error:
        return "fails"
    mark = "!" if row.as_predicted is False else ""
    return mark + words.amount(row.per_round_trip(row.loads))


def _time(cells: Cells, name: str, base: str) -> str:
    """The first variant's time as it is, the others' against it."""
    here, there = cells.get(name), cells.get(base)
    if here is None or here.ticks is None:
        return "-"
    if name == base or there is None or not there.ticks:
        return words.ticks(here.ticks)
    return words.percent(here.ticks, there.ticks)


def _legend(setups: Mapping[str, Iterable[str]], shown: Sequence[Cells]) -> list[str]:
    """What the letters and the numbers of the cells' ids mean."""
    lines = [f"{letter}: {' / '.join(names)}" for letter, names in sorted(setups.items())]
    if any("x" in _first(cells).cell.shape for cells in shown):
        lines.append("n1xn2: so many host CR3s in L1, so many guest CR3s for L2, in turn")
    if any("order" in _first(cells).cell.setup.row.shape for cells in shown):
        lines.append("ABAB: the roots in turn; AABB: each of them twice in a row")
    if any(row.as_predicted is False for cells in shown for row in cells.values()):
        lines.append("!: not what the simulated root cache predicts")
    return [piece for line in lines for piece in wrap(line, COLUMNS, subsequent_indent="   ")]


def _command(command: Sequence[str]) -> list[str]:
    """The command, broken with backslashes where it is too long; a single long word stays whole to be pasted."""
    pieces = wrap(shlex.join(command), COLUMNS - 6, break_long_words=False, break_on_hyphens=False)
    return [f"  {'' if index == 0 else '  '}{line}" for index, line in enumerate(_continued(pieces))]


def _continued(lines: Sequence[str]) -> list[str]:
    return [f"{line} \\" for line in lines[:-1]] + list(lines[-1:])
