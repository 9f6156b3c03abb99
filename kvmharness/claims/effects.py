"""What a series makes better, in words with the size of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kvmharness.results.verdict import listed

_SHOWN = 3  # cells that are named


@dataclass(frozen=True, slots=True)
class Effect:
    """One figure of one cell that is better than without the series.

    Attributes:
        what: the figure.
        cell: its label.
        variant: under which.
        before, after: the figure.
        unit: of it.
        host: where, if there are several.
    """

    what: str
    cell: str
    variant: str
    before: float
    after: float
    unit: str
    host: str = ""

    @property
    def where(self) -> str:
        """The cell, on which host if there are several."""
        return f"{self.host} {self.cell}".lstrip()

    @property
    def share(self) -> float:
        """How much is saved, as a part of what there was."""
        return (self.before - self.after) / self.before if self.before else 0.0


def effect_lines(effects: Iterable[Effect], order: Mapping[str, int]) -> tuple[str, ...]:
    """A line for each figure and each patch: which cells are lower since then, the largest gain first.

    Args:
        effects: of all variants.
        order: the variants that are judged, with how many of the patches each has.
    """
    last = max(order, key=lambda name: order[name], default="")
    since: dict[tuple[str, str], str] = {}
    ordered = sorted(effects, key=lambda each: order.get(each.variant, 0))
    for effect in ordered:
        since.setdefault((effect.what, effect.where), effect.variant)
    groups: dict[tuple[str, str], list[Effect]] = {}
    final = [each for each in ordered if each.variant == last]
    figures = list(dict.fromkeys(each.what for each in final))
    for effect in sorted(
        final, key=lambda each: (figures.index(each.what), order.get(since[each.what, each.where], 0))
    ):
        groups.setdefault((effect.what, since[effect.what, effect.where]), []).append(effect)
    lines = []
    for (what, first), found in groups.items():
        found.sort(key=_size)
        gains = [f"{each.where} {_amount(each.before)} -> {_amount(each.after)}" for each in found]
        lines.append(f"{what} lower since {first}, {found[0].unit}: {listed(gains, _SHOWN)}")
    return tuple(lines)


def _size(effect: Effect) -> tuple[float, float, str]:
    """For an order with the largest first."""
    return -effect.share, effect.after - effect.before, effect.where


def _amount(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
