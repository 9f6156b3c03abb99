"""Plots for the HTML page: root loads and time against the number of roots, one small SVG each.

An SVG's colours are names of the page's style sheet (``var(--v0)``), so that one drawing serves the light and the dark
scheme; its text stays text.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import combinations
from statistics import median
from typing import TYPE_CHECKING

from kvmharness.report import words
from kvmharness.report.rows import CACHED_ROOTS, Row, by_cell
from kvmharness.results.record import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE_INCHES = (4.6, 2.9)
DODGE = 0.13  # variants with the same figure stand beside each other, not on top of each other
MARKERS = "osD^vPX*"

# Colours that stand for names of the style sheet while matplotlib draws.
INK, FAINT = "#0a0b01", "#0a0b02"
VARIANT_INKS = tuple(f"#0a0c{index:02x}" for index in range(len(MARKERS)))


@dataclass(frozen=True, slots=True)
class Panel:
    """What is plotted side by side: one family of cells."""

    family: str
    plain: bool  # without marks and module parameters
    title: str
    loads: str  # SVG, or "" when nothing was counted
    time: str  # SVG, or "" when nothing was timed
    caption: str


def panels(record: Record, all_rows: Sequence[Row], prefix: str = "p") -> list[Panel]:
    """One panel for each family that has enough cells for a curve; *prefix* keeps ids apart on one page."""
    families: dict[str, list[Row]] = {}
    for row in all_rows:
        if row.error is None and row.skipped is None:
            families.setdefault(row.family, []).append(row)
    return [
        _panel(record, family, members, f"{prefix}-{family}")
        for family, members in families.items()
        if len({r.shape for r in members}) >= 3
    ]


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


def _panel(record: Record, family: str, members: Sequence[Row], name: str) -> Panel:
    first = members[0]
    letter, marks = first.letter, family.partition("/")[2]
    shapes = sorted({row.shape: row for row in members}.values(), key=lambda row: (row.roots, row.cell.host_cr3s))
    names = [variant.name for variant in record.variants]
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
        plain=not first.cell.marks and not first.cell.params,
        title=f"({letter}) {words.setup_name(record, letter)}" + (f", {marks.replace('/', ', ')}" if marks else ""),
        loads=_svg(f"{name}-loads", lambda axes: _draw_loads(axes, members, shapes, names)) if counted else "",
        time=_svg(f"{name}-time", lambda axes: _draw_time(axes, members, shapes, names, cost)) if timed else "",
        caption=caption,
    )


def _draw_loads(axes: "Axes", members: Sequence[Row], shapes: Sequence[Row], names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        points = _points(members, shapes, names, index)
        _line(axes, index, [(x, row.per_round_trip(row.loads_predicted)) for x, row in points])
        _dots(axes, index, [(x, row.per_round_trip(row.loads)) for x, row in points], name)
    highest = max((row.per_round_trip(row.loads) or 0 for row in members), default=0)
    axes.set_ylim(-0.15, max(2.3, highest * 1.12))
    axes.set_ylabel("root loads per round trip")
    _frame(axes, shapes)


def _draw_time(
    axes: "Axes", members: Sequence[Row], shapes: Sequence[Row], names: Sequence[str], cost: float | None
) -> None:
    """Medians as dots; the line is the cell's time without any load plus what the oracle's loads cost."""
    floors = {key: _floor(cells, cost) for key, cells in by_cell(members).items()}
    for index, name in enumerate(names):
        points = _points(members, shapes, names, index)
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
    _frame(axes, shapes)


def _floor(cells: dict[str, Row], cost: float | None) -> float | None:
    """A cell's time with the loads' share taken out: median over the variants."""
    bare = [
        row.ticks - (cost or 0.0) * (row.per_round_trip(row.loads) or 0.0)
        for row in cells.values()
        if row.ticks is not None
    ]
    return median(bare) if bare else None


def _points(members: Sequence[Row], shapes: Sequence[Row], names: Sequence[str], index: int) -> list[tuple[float, Row]]:
    shift = (index - (len(names) - 1) / 2) * DODGE
    places = {row.shape: place + shift for place, row in enumerate(shapes)}
    points = [(places[row.shape], row) for row in members if row.variant == names[index]]
    return sorted(points, key=lambda point: point[0])


def _line(axes: "Axes", index: int, points: Sequence[tuple[float, float | None]]) -> None:
    known = [(x, y) for x, y in points if y is not None]
    if known:
        axes.plot(*zip(*known, strict=True), "-", color=_ink(index), linewidth=1.1, alpha=0.65, zorder=2)


def _dots(axes: "Axes", index: int, points: Sequence[tuple[float, float | None]], name: str) -> None:
    known = [(x, y) for x, y in points if y is not None]
    if known:
        marker = MARKERS[index % len(MARKERS)]
        axes.plot(*zip(*known, strict=True), marker, color=_ink(index), markersize=4.5, label=name, zorder=3)


def _ink(index: int) -> str:
    return VARIANT_INKS[index % len(VARIANT_INKS)]


def _frame(axes: "Axes", shapes: Sequence[Row]) -> None:
    """Axes, the categories' names, and where the cache is full."""
    setup = shapes[0].cell.setup.row
    paired = len(setup.rotates) > 1
    labels = [f"{row.roots}\n{row.shape.replace('x', '×')}" if paired else str(row.roots) for row in shapes]
    axes.set_xticks(range(len(shapes)), labels)
    axes.set_xlim(-0.6, len(shapes) - 0.4)
    axes.set_xlabel(setup.axis + (" and n1×n2" if paired else ""))
    fitting = sum(row.roots <= CACHED_ROOTS for row in shapes)
    if 0 < fitting < len(shapes):
        axes.axvline(fitting - 0.5, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            f"{CACHED_ROOTS} roots fit",
            (fitting - 0.5, 1),
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
