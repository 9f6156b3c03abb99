"""What a validation answers: one outcome a claim and one for the series, as plain data that every report can show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from kvmharness.errors import ExitCode
from kvmharness.results.jsonread import Fields, ShapeError, list_of, text, text_map, texts

_NAMED = 4  # claims in the headline, of each outcome

# What a claim that is always in force is about.
CELLS_RUN = "Everything runs, and reads what it must"
NO_MORE_WORK = "KVM does no more work, and takes no longer"
KERNEL_WELL = "The kernel builds and stays well"
OTHERS_TESTS = "Tests of the kernel's own and of kvm-unit-tests"


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
    variants: tuple[str, ...] = ()  # names of the variants that decided it
    group: str = ""  # what it is about, for reports; empty for what the series claims itself

    def to_json(self) -> dict[str, object]:
        """Plain JSON values."""
        return {
            "name": self.name,
            "text": self.text,
            "outcome": self.outcome.value,
            "figures": list(self.figures),
            "cells": list(self.cells),
            "variants": list(self.variants),
            "group": self.group,
        }


@dataclass(frozen=True, slots=True)
class Asked:
    """Something that maintainers ask for, and what became of it.

    Attributes:
        what: in a few words.
        done: what was done for it; empty for nothing.
        result: an Outcome's value, or a word of its own; empty when nothing was done.
        because: why it was not done, or not all of it.
    """

    what: str
    done: str = ""
    result: str = ""
    because: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A series, answered. ``outcome`` follows from the claims: see :meth:`of`.

    Attributes:
        series: its name.
        outcome: the answer.
        claims: what it follows from.
        variants: their names, in the order to show them.
        command: what reproduces it.
        titles: of the patches, by the name of the variant that is the patch alone.
        broken: which patch breaks what, in words; empty where none does.
        effects: what is better than without the series, and by how much.
        waived: what the series asked not to be judged by, and why.
        untested: what the answer says nothing about.
        checklist: what maintainers ask for, and what became of it; empty when that was not asked for.
    """

    series: str
    outcome: Outcome
    claims: tuple[ClaimResult, ...]
    variants: tuple[str, ...]
    command: tuple[str, ...]
    titles: Mapping[str, str] = field(default_factory=dict)
    broken: str = ""
    effects: tuple[str, ...] = ()
    waived: tuple[str, ...] = ()
    untested: tuple[str, ...] = ()
    checklist: tuple[Asked, ...] = ()

    @classmethod
    def of(
        cls,
        series: str,
        claims: tuple[ClaimResult, ...],
        variants: tuple[str, ...],
        command: tuple[str, ...],
        **more: Any,
    ) -> "Verdict":
        """The verdict that *claims* add up to: FAIL if any failed, else INCONCLUSIVE if any is, else PASS.

        Args:
            series, claims, variants, command: see the class.
            more: its other attributes.
        """
        return cls(series, Outcome.overall([claim.outcome for claim in claims]), claims, variants, command, **more)

    @property
    def headline(self) -> str:
        """The answer in one line: how many claims hold, what was not checked, and which patch breaks what."""
        names = {outcome: [claim.name for claim in self.claims if claim.outcome is outcome] for outcome in Outcome}
        holding = len(names[Outcome.PASS])
        told = [f"{holding} hold{'s' if holding == 1 else ''}"]
        for outcome, words in ((Outcome.INCONCLUSIVE, "undecided"), (Outcome.SKIPPED, "not checked")):
            if names[outcome]:
                told.append(f"{len(names[outcome])} {words}: {listed(names[outcome], _NAMED)}")
        if self.broken or names[Outcome.FAIL]:
            told.insert(0, self.broken or f"fails: {listed(names[Outcome.FAIL], _NAMED)}")
        return f"{self.series}: {self.outcome.value} ({'; '.join(told)})"

    @property
    def remarks(self) -> dict[str, tuple[str, ...]]:
        """What stands below the claims, by the title that it stands under; only what there is."""
        parts = {
            "Patches": tuple(f"{name}: {title}" for name, title in self.titles.items()),
            "Better than without the series": self.effects,
            "Waived by the series": self.waived,
            "Not tested": self.untested,
        }
        return {title: lines for title, lines in parts.items() if lines}

    def to_json(self) -> dict[str, object]:
        """Plain JSON values."""
        return {
            "series": self.series,
            "outcome": self.outcome.value,
            "headline": self.headline,
            "claims": [claim.to_json() for claim in self.claims],
            "variants": list(self.variants),
            "command": list(self.command),
            "titles": dict(self.titles),
            "broken": self.broken,
            "effects": list(self.effects),
            "waived": list(self.waived),
            "untested": list(self.untested),
            "checklist": [{name: getattr(each, name) for name in _ASKED} for each in self.checklist],
        }

    @classmethod
    def from_json(cls, document: object) -> "Verdict":
        """Read :meth:`to_json`'s document back.

        Raises:
            ShapeError: it is not one.
        """
        with Fields(document) as top:
            verdict = cls(
                series=top.take("series", text),
                outcome=top.take("outcome", _outcome),
                claims=top.take("claims", list_of(_claim)),
                variants=top.take("variants", texts),
                command=top.take("command", texts),
                titles=top.take("titles", text_map),
                broken=top.take("broken", text),
                effects=top.take("effects", texts),
                waived=top.take("waived", texts),
                untested=top.take("untested", texts),
                checklist=top.take("checklist", list_of(_asked)),
            )
            top.take("headline", text)  # follows from the others
            return verdict


_ASKED = ("what", "done", "result", "because")


def listed(names: Sequence[str], limit: int = 6) -> str:
    """The first so many names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _claim(value: object, where: str) -> ClaimResult:
    with Fields(value, where) as taken:
        return ClaimResult(
            name=taken.take("name", text),
            text=taken.take("text", text),
            outcome=taken.take("outcome", _outcome),
            figures=taken.take("figures", texts),
            cells=taken.take("cells", texts),
            variants=taken.take("variants", texts),
            group=taken.take("group", text),
        )


def _asked(value: object, where: str) -> Asked:
    with Fields(value, where) as taken:
        return Asked(*(taken.take(name, text) for name in _ASKED))


def _outcome(value: object, where: str) -> Outcome:
    try:
        return Outcome(value)
    except ValueError:
        raise ShapeError(f"{where}: expected one of {', '.join(Outcome.__members__)}, found {value!r}") from None
