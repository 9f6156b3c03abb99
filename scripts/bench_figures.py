"""What a benchmark gives: a figure, its target, and what it was made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One figure against its target.

    Attributes:
        value: None when it could not be measured; `note` says why.
        met: whether the target is met, None without a value.
    """

    name: str
    value: float | None
    target: str
    met: bool | None
    ours: str = ""
    c: str = ""
    note: str = ""


def table(results: list[Result]) -> str:
    """A line a figure."""
    lines = []
    for result in results:
        word = {True: "met", False: "MISSED", None: "-"}[result.met]
        sides = f"  ({result.ours}{f' against {result.c}' if result.c else ''})" if result.ours else ""
        figure = "-" if result.value is None else f"{result.value:.3g}"
        lines.append(f"{word:6}  {figure:>6}  {result.target:7}  {result.name}{sides}")
        if result.note:
            lines.append(f"{'':25}{result.note}")
    return "\n".join(lines)
