"""What a series can promise: the words of the ``[[claim]]`` tables beside its patches.

A claim names a metric, what is claimed of it, in which cells and for which variants::

    [[claim]]
    name = "patch-1-saves-loads"
    text = "At n1 = n2 = 3 without EPT for L2, patch 1 saves both root loads of a round trip."
    metric = "loads"
    check = "exactly"
    value = 2
    cells = "a:3x3"
    variants = ["none", "p2"]

Anything that is not in the vocabulary is an error: a misspelt claim must not pass for want of cells.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any, Self

from kvmharness.claims.metrics import is_metric, metric_names
from kvmharness.claims.table import ClaimError, Table

KEYS = {
    "name": "short and stable",
    "text": "the claim as a sentence",
    "metric": "what is counted or timed",
    "check": "what is claimed of it",
    "cells": "patterns of cells, braces and shell wildcards allowed; all without it",
    "variants": "patterns of the variants that each must fulfil it; all that are judged without it",
    "compare": 'from one variant to another, for a check that compares: "none->p*", which is "none->*" without it',
    "value": "for exactly and at-most",
    "per": "whether a value is of a round-trip, as without it, or total",
    "tolerance": "what may differ: counts per round trip, or a fraction of the time",
    "at-least": "the fraction by which lower must be lower",
    "where-described": "for equal-to-oracle: true leaves out variants that the model does not describe",
}
"""What a ``[[claim]]`` may say -> what that means."""


class Check(StrEnum):
    """What is claimed of a metric, and in words."""

    words: str

    def __new__(cls, value: str, words: str = "") -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.words = words
        return member

    EQUAL_TO_ORACLE = "equal-to-oracle", "of each variant, the model's exact figure; see where-described"
    EXACTLY = "exactly", "of each variant, value"
    AT_MOST = "at-most", "of each variant, value or less"
    EQUAL = "equal", "between variants, to within tolerance"
    UNCHANGED = "unchanged", "between variants, to within tolerance or what the noise hides"
    NOT_HIGHER = "not-higher", "from one variant to another, by no more than tolerance"
    LOWER = "lower", "from one variant to another, by the fraction at-least or more"

    @property
    def compares(self) -> bool:
        """Whether the claim is about two variants."""
        return self in (Check.EQUAL, Check.UNCHANGED, Check.NOT_HIGHER, Check.LOWER)


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim.

    Attributes:
        name: short and stable.
        text: the claim as a sentence.
        metric: a name of :func:`kvmharness.claims.metrics.metric_names`.
        check: what is claimed.
        cells: patterns of cell labels, braces and shell wildcards allowed; any may match.
        variants: patterns of the variants that each must fulfil it; all without.
        pairs: patterns (from, to) for claims that compare.
        value: for exactly and at-most.
        per_round_trip: the value is of one round trip, else of the whole counting pass.
        tolerance: what may differ: counts per round trip (or in all), or a fraction of the time.
        at_least: the fraction by which `lower` must be lower.
        where_described: for equal-to-oracle: leaves out the variants that the model does not describe, because the
            series changes what it is a model of; else these make the claim inconclusive.
    """

    name: str
    text: str
    metric: str
    check: Check
    cells: tuple[str, ...] = ("*",)
    variants: tuple[str, ...] = ("*",)
    pairs: tuple[tuple[str, str], ...] = ()
    value: Fraction | None = None
    per_round_trip: bool = True
    tolerance: Fraction = Fraction(0)
    at_least: Fraction = Fraction(0)
    where_described: bool = False

    def names_variants(self) -> set[str]:
        """Every variant that it names without a wildcard."""
        names = {*self.variants, *(name for pair in self.pairs for name in pair)}
        return {name for name in names if "*" not in name}

    def covers(self, label: str) -> bool:
        """Whether it is about the cell of this label."""
        return any(fnmatchcase(label, pattern) for pattern in self.cells)


def parse_claims(tables: Iterable[Mapping[str, Any]], origin: str = "series.toml") -> tuple[Claim, ...]:
    """The claims of a series.

    Args:
        tables: its ``[[claim]]`` tables.
        origin: the file, for messages.

    Raises:
        ClaimError: naming the claim and the word that is not known.
    """
    claims = tuple(_claim(Table(table, f"{origin}, claim {number}")) for number, table in enumerate(tables, 1))
    if twice := [name for name, count in Counter(claim.name for claim in claims).items() if count > 1]:
        raise ClaimError(f"{origin}: two claims are called {twice[0]!r}")
    return claims


def check_variants(claims: Iterable[Claim], known: Iterable[str], origin: str = "series.toml") -> None:
    """Refuses claims about variants that the series does not have.

    Raises:
        ClaimError: naming the claim and the variant.
    """
    names = set(known)
    for claim in claims:
        if strange := sorted(claim.names_variants() - names):
            raise ClaimError(
                f"{origin}: claim {claim.name!r} is about variant {strange[0]!r}, which the series does not have",
                f"It has: {', '.join(sorted(names))}.",
            )


def _claim(table: Table) -> Claim:
    table.refuse_unknown(KEYS)
    check = table.word("check", [str(word) for word in Check])
    metric = table.text("metric")
    if not is_metric(metric):
        raise table.error(f"unknown metric {metric!r}", f"Known metrics: {', '.join(metric_names())}.")
    claim = Claim(
        name=table.text("name"),
        text=table.text("text"),
        metric=metric,
        check=Check(check),
        cells=table.cells(),
        variants=table.texts("variants", "*"),
        pairs=tuple(_pair(table, text) for text in table.texts("compare", "none->*")),
        value=table.number("value"),
        per_round_trip=table.word("per", ["round-trip", "total"], "round-trip") == "round-trip",
        tolerance=table.number("tolerance") or Fraction(0),
        at_least=table.number("at-least") or Fraction(0),
        where_described=table.flag("where-described"),
    )
    _fitting(table, claim)
    return claim


def _fitting(table: Table, claim: Claim) -> None:
    """Refuses keys that the check would ignore, and a check that its metric cannot have."""
    valued = claim.check in (Check.EXACTLY, Check.AT_MOST)
    allowed = {
        "value": valued,
        "per": claim.metric != "time",
        "variants": not claim.check.compares,
        "compare": claim.check.compares,
        "tolerance": claim.check in (Check.EQUAL, Check.UNCHANGED, Check.NOT_HIGHER),
        "at-least": claim.check == Check.LOWER,
        "where-described": claim.check == Check.EQUAL_TO_ORACLE,
    }
    for key, fits in allowed.items():
        if key in table.table and not fits:
            raise table.error(f"{key!r} has no meaning with check = {str(claim.check)!r} of {claim.metric!r}")
    if valued and claim.value is None:
        raise table.error(f"check = {str(claim.check)!r} needs a value")
    if claim.check == Check.EQUAL_TO_ORACLE and claim.metric not in ("loads", "switches"):
        raise table.error(f"the oracle predicts loads and switches, not {claim.metric!r}")
    if claim.metric == "time" and claim.check not in (Check.LOWER, Check.UNCHANGED, Check.NOT_HIGHER):
        raise table.error("of time, only 'lower', 'not-higher' and 'unchanged' can be claimed")


def _pair(table: Table, text: str) -> tuple[str, str]:
    before, arrow, after = (part.strip() for part in text.partition("->"))
    if not (before and arrow and after):
        raise table.error(f"compare = {text!r}: two variants are expected, as in 'none->both'")
    return before, after
