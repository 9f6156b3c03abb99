"""What a series makes better, in words with the size of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
    """

    what: str
    cell: str
    variant: str
    before: float
    after: float
    unit: str

    @property
    def share(self) -> float:
        """How much is saved, as a part of what there was."""
        return (self.before - self.after) / self.before if self.before else 0.0


def effect_lines(effects: Iterable[Effect], order: Mapping[str, int]) -> tuple[str, ...]:
    """A line for each figure: in how many cells it is lower with the whole series, the largest first, and since when.

    Args:
        effects: of all variants.
        order: the variants that are judged, with how many of the patches each has.
    """
    last = max(order, key=lambda name: order[name], default="")
    by_what: dict[str, list[Effect]] = {}
    for effect in effects:
        by_what.setdefault(effect.what, []).append(effect)
    lines = []
    for what, found in by_what.items():
        final = sorted((each for each in found if each.variant == last), key=_size)
        if not final:
            continue
        cells = {each.cell for each in final}
        since = min((each.variant for each in found if each.cell in cells), key=lambda name: order.get(name, 0))
        shown = ", ".join(f"{each.cell} {_amount(each.before)} -> {_amount(each.after)}" for each in final[:_SHOWN])
        more = f" and {len(cells) - _SHOWN} more" if len(cells) > _SHOWN else ""
        lines.append(f"{what} lower since {since}, {final[0].unit}: {shown}{more}")
    return tuple(lines)


def _size(effect: Effect) -> tuple[float, float, str]:
    """For an order with the largest first."""
    return -effect.share, effect.after - effect.before, effect.cell


def _amount(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
