"""What a validation answers: one outcome a claim and one for the series, as plain data that every report can show."""

from dataclasses import dataclass
from enum import Enum

from kvmharness.errors import ExitCode
from kvmharness.results.jsonread import Fields, ShapeError, list_of, text, texts


class Outcome(Enum):
    """Answer to one claim, or to all of them."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"  # the figures allow neither: neither a pass nor a failure
    SKIPPED = "SKIPPED"  # nothing to judge by: this host cannot run the cells

    @property
    def exit_code(self) -> ExitCode:
        """What the process answers when this is the verdict."""
        return ExitCode[self.name]

    @staticmethod
    def overall(outcomes: "tuple[Outcome, ...] | list[Outcome]") -> "Outcome":
        """The verdict on several: the worst one counts, and a skipped one only when there is nothing else."""
        for worst in (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS):
            if worst in outcomes:
                return worst
        return Outcome.SKIPPED


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """One claim of a series, answered."""

    name: str  # short, stable: "root-loads-equal-oracle"
    text: str  # the claim as a sentence
    outcome: Outcome
    figures: tuple[str, ...] = ()  # what it was judged by, one line each, ready to print
    cells: tuple[str, ...] = ()  # ids of the cells that decided it

    def to_json(self) -> dict[str, object]:
        """Plain JSON values."""
        return {
            "name": self.name,
            "text": self.text,
            "outcome": self.outcome.value,
            "figures": list(self.figures),
            "cells": list(self.cells),
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """A series, answered. ``outcome`` follows from the claims: see :meth:`of`."""

    series: str
    outcome: Outcome
    claims: tuple[ClaimResult, ...]
    variants: tuple[str, ...]  # names, in the order to show them
    command: tuple[str, ...]  # what reproduces it

    @classmethod
    def of(
        cls, series: str, claims: tuple[ClaimResult, ...], variants: tuple[str, ...], command: tuple[str, ...]
    ) -> "Verdict":
        """The verdict that *claims* add up to: FAIL if any failed, else INCONCLUSIVE if any is, else PASS."""
        return cls(series, Outcome.overall([claim.outcome for claim in claims]), claims, variants, command)

    def to_json(self) -> dict[str, object]:
        """Plain JSON values."""
        return {
            "series": self.series,
            "outcome": self.outcome.value,
            "claims": [claim.to_json() for claim in self.claims],
            "variants": list(self.variants),
            "command": list(self.command),
        }

    @classmethod
    def from_json(cls, document: object) -> "Verdict":
        """Read :meth:`to_json`'s document back.

        Raises:
            ShapeError: it is not one.
        """
        with Fields(document) as top:
            return cls(
                series=top.take("series", text),
                outcome=top.take("outcome", _outcome),
                claims=top.take("claims", list_of(_claim)),
                variants=top.take("variants", texts),
                command=top.take("command", texts),
            )


def _claim(value: object, where: str) -> ClaimResult:
    with Fields(value, where) as taken:
        return ClaimResult(
            name=taken.take("name", text),
            text=taken.take("text", text),
            outcome=taken.take("outcome", _outcome),
            figures=taken.take("figures", texts),
            cells=taken.take("cells", texts),
        )


def _outcome(value: object, where: str) -> Outcome:
    try:
        return Outcome(value)
    except ValueError:
        raise ShapeError(f"{where}: expected one of {', '.join(Outcome.__members__)}, found {value!r}") from None
