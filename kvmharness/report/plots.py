"""Plots for the HTML page: root loads and time against the number of roots, one small SVG each.

An SVG's colours are names of the page's style sheet (``var(--v0)``), so that one drawing serves the light and the dark
scheme; its text stays text.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import combinations
from statistics import median
from typing import TYPE_CHECKING

from kvmharness.report import words
from kvmharness.report.rows import CACHED_ROOTS, Row, by_cell
from kvmharness.results.record import CellKey, Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE_INCHES = (4.6, 2.7)
DODGE = 0.13  # variants with the same figure stand beside each other, not on top of each other
SPREAD = 0.7  # of all of them, of the distance between two places
MARKERS = "osD^vPX*"
GLYPHS = "●■◆▲▼✚✖★"  # the same in text
MOST_PLACES = 14  # cells of all set-ups in one plot

# Colours that stand for names of the style sheet while matplotlib draws.
INK, FAINT = "#0a0b01", "#0a0b02"
VARIANT_INKS = tuple(f"#0a0c{index:02x}" for index in range(len(MARKERS)))


@dataclass(frozen=True, slots=True)
class Panel:
    """What is plotted side by side: one family of cells, or all that there are where none is large enough."""

    family: str
    effect: float  # how far the variants lie apart in root loads
    plain: bool  # without marks and module parameters
    title: str
    loads: str  # SVG, or "" when nothing was counted
    time: str  # SVG, or "" when nothing was timed
    caption: str


@dataclass(frozen=True, slots=True)
class _Places:
    """Where cells stand on the horizontal axis, and what is written there."""

    of: Mapping[CellKey, int]
    names: Sequence[str]
    title: str
    fitting: int  # of them, so many from the left have room in the root cache; 0 where that is not told


def mark(index: int) -> tuple[str, str, int]:
    """How a variant is drawn: marker, the same as a character, and which colour; the first 64 are all different."""
    shape = (index + index // len(MARKERS)) % len(MARKERS)
    return MARKERS[shape], GLYPHS[shape], index % len(MARKERS)


def panels(record: Record, all_rows: Sequence[Row], names: Sequence[str], prefix: str = "p") -> list[Panel]:
    """One panel for each family that has enough cells for a curve, the largest effect first.

    Args:
        record: the run.
        all_rows: its rows.
        names: the variants to show.
        prefix: keeps ids apart on one page.
    """
    families: dict[str, list[Row]] = {}
    shown = [row for row in all_rows if row.error is None and row.skipped is None and row.variant in names]
    for row in shown:
        families.setdefault(row.family, []).append(row)
    found = [
        _panel(record, family, members, names, f"{prefix}-{family}")
        for family, members in families.items()
        if len({r.shape for r in members}) >= 3
    ]
    if not found and len({row.key for row in shown}) <= MOST_PLACES and any(row.loads is not None for row in shown):
        found = [_all_cells(shown, names, prefix)]
    return sorted(found, key=lambda panel: (not panel.plain, -panel.effect))


def cost_of_a_load(members: Sequence[Row]) -> float | None:
    """What one root load adds to a round trip, in ticks: median over all pairs of variants that differ in loads."""
    slopes = []
    for cells in by_cell(members).values():
        for one, other in combinations(cells.values(), 2):
            loads = [row.per_round_trip(row.loads) for row in (one, other)]
            if loads[0] is None or loads[1] is None or one.ticks is None or other.ticks is None:
                continue
            if abs(loads[0] - loads[1]) >= 0.1:  # less is no lever to measure with
                slopes.append((one.ticks - other.ticks) / (loads[0] - loads[1]))
    return median(slopes) if slopes else None


def _panel(record: Record, family: str, members: Sequence[Row], names: Sequence[str], name: str) -> Panel:
    first = members[0]
    letter, marks = first.letter, family.partition("/")[2]
    places = _places(members)
    cost = cost_of_a_load(members)
    timed = any(row.ticks for row in members)
    counted = any(row.loads is not None for row in members)
    caption = ""
    if cost is not None:
        caption = f"One root load costs about {cost:,.0f} {record.unit}."
    elif any(row.loads for row in members):
        caption = "Root loads are the same under every variant."
    return Panel(
        family=family,
        effect=_effect(members),
        plain=not first.cell.marks and not first.cell.params,
        title=f"({letter}) {words.setup_name(record, letter)}" + (f", {marks.replace('/', ', ')}" if marks else ""),
        loads=_svg(f"{name}-loads", lambda axes: _draw_loads(axes, members, places, names)) if counted else "",
        time=_svg(f"{name}-time", lambda axes: _draw_time(axes, members, places, names, cost)) if timed else "",
        caption=caption,
    )


def _all_cells(shown: Sequence[Row], names: Sequence[str], prefix: str) -> Panel:
    """Root loads of a handful of cells; their times have no scale in common."""
    ids = {row.key: row.id for row in shown}
    places = _Places({key: place for place, key in enumerate(ids)}, list(ids.values()), "", 0)
    loads = _svg(f"{prefix}-cells", lambda axes: _draw_loads(axes, shown, places, names, lines=False))
    return Panel("cells", _effect(shown), True, "Root loads of every cell", loads, "", "")


def _effect(members: Sequence[Row]) -> float:
    loads = [
        [each for row in cells.values() if (each := row.per_round_trip(row.loads)) is not None]
        for cells in by_cell(members).values()
    ]
    return max((max(own) - min(own) for own in loads if own), default=0.0)


def _places(members: Sequence[Row]) -> _Places:
    """By how many roots there are."""
    shapes = sorted({row.shape: row for row in members}.values(), key=lambda row: (row.roots, row.cell.host_cr3s))
    setup = shapes[0].cell.setup.row
    paired = len(setup.rotates) > 1
    place = {row.shape: index for index, row in enumerate(shapes)}
    return _Places(
        {row.key: place[row.shape] for row in members},
        [f"{row.roots}\n{row.shape.replace('x', '×')}" if paired else str(row.roots) for row in shapes],
        setup.axis + (" and n1×n2" if paired else ""),
        sum(row.roots <= CACHED_ROOTS for row in shapes),
    )


def _draw_loads(
    axes: "Axes", members: Sequence[Row], places: _Places, names: Sequence[str], *, lines: bool = True
) -> None:
    for index, name in enumerate(names):
        points = _points(members, places, names, index)
        if lines:
            _line(axes, index, [(x, row.per_round_trip(row.loads_predicted)) for x, row in points])
        _dots(axes, index, [(x, row.per_round_trip(row.loads)) for x, row in points], name)
    highest = max((row.per_round_trip(row.loads) or 0 for row in members), default=0)
    axes.set_ylim(-0.15, max(2.3, highest * 1.12))
    axes.set_ylabel("root loads per round trip")
    _frame(axes, places)


def _draw_time(axes: "Axes", members: Sequence[Row], places: _Places, names: Sequence[str], cost: float | None) -> None:
    """Medians as dots; the line is the cell's time without any load plus what the oracle's loads cost."""
    floors = {key: _floor(cells, cost) for key, cells in by_cell(members).items()}
    for index, name in enumerate(names):
        points = _points(members, places, names, index)
        expected = []
        for x, row in points:
            floor, loads = floors[row.key], row.per_round_trip(row.loads_predicted)
            expected.append((x, None if floor is None or loads is None else floor + (cost or 0.0) * loads))
        _line(axes, index, expected)
        _dots(axes, index, [(x, row.ticks) for x, row in points], name)
    times = [row.ticks for row in members if row.ticks]
    margin = max(max(times) * 0.03, (max(times) - min(times)) * 0.15)
    axes.set_ylim(min(times) - margin, max(times) + margin)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_ylabel("time per round trip")
    _frame(axes, places)


def _floor(cells: dict[str, Row], cost: float | None) -> float | None:
    """A cell's time with the loads' share taken out: median over the variants."""
    bare = [
        row.ticks - (cost or 0.0) * (row.per_round_trip(row.loads) or 0.0)
        for row in cells.values()
        if row.ticks is not None
    ]
    return median(bare) if bare else None


def _points(members: Sequence[Row], places: _Places, names: Sequence[str], index: int) -> list[tuple[float, Row]]:
    shift = (index - (len(names) - 1) / 2) * min(DODGE, SPREAD / len(names))
    points = [(places.of[row.key] + shift, row) for row in members if row.variant == names[index]]
    return sorted(points, key=lambda point: point[0])


def _line(axes: "Axes", index: int, points: Sequence[tuple[float, float | None]]) -> None:
    known = [(x, y) for x, y in points if y is not None]
    if known:
        axes.plot(*zip(*known, strict=True), "-", color=_ink(index), linewidth=1.1, alpha=0.65, zorder=2)


def _dots(axes: "Axes", index: int, points: Sequence[tuple[float, float | None]], name: str) -> None:
    known = [(x, y) for x, y in points if y is not None]
    if known:
        marker, *_ = mark(index)
        axes.plot(*zip(*known, strict=True), marker, color=_ink(index), markersize=4.5, label=name, zorder=3)


def _ink(index: int) -> str:
    return VARIANT_INKS[index % len(VARIANT_INKS)]


def _frame(axes: "Axes", places: _Places) -> None:
    """Axes, the categories' names, and where the cache is full."""
    count = len(places.names)
    # Names of cells are long, and the drawing is narrow.
    axes.set_xticks(range(count), places.names)
    if not places.title and count > 4:
        axes.tick_params(axis="x", labelrotation=90)
    axes.set_xlim(-0.6, count - 0.4)
    axes.set_xlabel(places.title)
    if 0 < places.fitting < count:
        axes.axvline(places.fitting - 0.5, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            f"{CACHED_ROOTS} roots fit",
            (places.fitting - 0.5, 1),
            xytext=(-4, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right",
            va="top",
            color=FAINT,
        )
    axes.grid(axis="y", color=FAINT, alpha=0.25, linewidth=0.6)
    axes.tick_params(colors=INK, length=0)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for side, spine in axes.spines.items():
        spine.set_color(FAINT)
        spine.set_visible(side in ("left", "bottom"))


def _svg(name: str, draw: "Callable[[Axes], None]") -> str:
    """The SVG element that *draw* makes on fresh axes: repeatable, its ids made unique by *name*."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9, "font.family": "sans-serif"}
    with rc_context(style):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        out = StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return _adopted(out.getvalue(), re.sub(r"\W+", "-", name))


def _adopted(document: str, prefix: str) -> str:
    """The drawing as a part of the page: without its own headers and size, ids prefixed, colours named."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'^<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" role="img">', svg, count=1)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r"font-family: [^;\"]+;? ?", "", svg)  # the page's own
    named = {INK: "var(--ink)", FAINT: "var(--faint)"}
    named |= {ink: f"var(--v{index})" for index, ink in enumerate(VARIANT_INKS)}
    for ink, name in named.items():
        svg = svg.replace(ink, name)
    return svg
