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

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any

from kvmharness.cells.labels import check_pattern
from kvmharness.claims.metrics import is_metric, metric_names
from kvmharness.errors import UsageError

_KEYS = {
    *("name", "text", "metric", "check", "cells", "variants", "compare"),
    *("value", "per", "tolerance", "at-least", "where-described"),
}


class ClaimError(UsageError):
    """A claim says something that is not in the vocabulary."""


class Check(StrEnum):
    """What is claimed of a metric."""

    EQUAL_TO_ORACLE = "equal-to-oracle"  # of each variant, the model's exact figure; see `where-described`
    EXACTLY = "exactly"  # of each variant, `value`
    AT_MOST = "at-most"  # of each variant, `value` or less
    EQUAL = "equal"  # between variants, to within `tolerance`
    UNCHANGED = "unchanged"  # between variants, to within `tolerance` or what the noise hides
    LOWER = "lower"  # from one variant to another, by the fraction `at-least` or more

    @property
    def compares(self) -> bool:
        """Whether the claim is about two variants."""
        return self in (Check.EQUAL, Check.UNCHANGED, Check.LOWER)


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
    claims = tuple(_Table(table, f"{origin}, claim {number}").claim() for number, table in enumerate(tables, 1))
    names = [claim.name for claim in claims]
    for name in names:
        if names.count(name) > 1:
            raise ClaimError(f"{origin}: two claims are called {name!r}")
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


def expand_braces(pattern: str) -> tuple[str, ...]:
    """``a:{1,2}x1`` as ``a:1x1`` and ``a:2x1``; braces do not nest.

    Raises:
        ValueError: they do, or one is missing.
    """
    head, opened, rest = pattern.partition("{")
    if not opened:
        return (pattern,)
    inner, closed, tail = rest.partition("}")
    if not closed or "{" in inner:
        raise ValueError(f"the braces of {pattern!r} are not balanced, or nest")
    return tuple(head + choice + end for choice in inner.split(",") for end in expand_braces(tail))


class _Table:
    """One ``[[claim]]`` table while it is read."""

    def __init__(self, table: Mapping[str, Any], where: str) -> None:
        self.table = table
        self.where = f"{where} ({table['name']!r})" if isinstance(table.get("name"), str) else where

    def claim(self) -> Claim:
        if unknown := sorted(set(self.table) - _KEYS):
            raise self._error(f"unknown key {unknown[0]!r}", f"Known keys: {', '.join(sorted(_KEYS))}.")
        check = self._word("check", [str(word) for word in Check])
        metric = self._text("metric")
        if not is_metric(metric):
            raise self._error(f"unknown metric {metric!r}", f"Known metrics: {', '.join(metric_names())}.")
        claim = Claim(
            name=self._text("name"),
            text=self._text("text"),
            metric=metric,
            check=Check(check),
            cells=self._cells(),
            variants=self._texts("variants", "*"),
            pairs=tuple(self._pair(text) for text in self._texts("compare", "none->*")),
            value=self._number("value"),
            per_round_trip=self._word("per", ["round-trip", "total"], "round-trip") == "round-trip",
            tolerance=self._number("tolerance") or Fraction(0),
            at_least=self._number("at-least") or Fraction(0),
            where_described=self._flag("where-described"),
        )
        self._fitting(claim)
        return claim

    def _fitting(self, claim: Claim) -> None:
        """Refuses keys that the check would ignore, and a check that its metric cannot have."""
        valued = claim.check in (Check.EXACTLY, Check.AT_MOST)
        allowed = {
            "value": valued,
            "per": claim.metric != "time",
            "variants": not claim.check.compares,
            "compare": claim.check.compares,
            "tolerance": claim.check in (Check.EQUAL, Check.UNCHANGED),
            "at-least": claim.check == Check.LOWER,
            "where-described": claim.check == Check.EQUAL_TO_ORACLE,
        }
        for key, fits in allowed.items():
            if key in self.table and not fits:
                raise self._error(f"{key!r} has no meaning with check = {str(claim.check)!r} of {claim.metric!r}")
        if valued and claim.value is None:
            raise self._error(f"check = {str(claim.check)!r} needs a value")
        if claim.check == Check.EQUAL_TO_ORACLE and claim.metric not in ("loads", "switches"):
            raise self._error(f"the oracle predicts loads and switches, not {claim.metric!r}")
        if claim.metric == "time" and claim.check not in (Check.LOWER, Check.UNCHANGED):
            raise self._error("of time, only 'lower' and 'unchanged' can be claimed")

    def _error(self, what: str, hint: str = "") -> ClaimError:
        return ClaimError(f"{self.where}: {what}", hint)

    def _text(self, key: str) -> str:
        value = self.table.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self._error(f"{key} = {value!r}: a text is expected")
        return value

    def _texts(self, key: str, default: str) -> tuple[str, ...]:
        value = self.table.get(key, default)
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise self._error(f"{key} = {value!r}: a text or a list of texts is expected")
        return tuple(texts)

    def _word(self, key: str, words: list[str], default: str = "") -> str:
        value = self.table.get(key, default)
        if value not in words:
            raise self._error(f"{key} = {value!r} is not in the vocabulary", f"Known: {', '.join(words)}.")
        return str(value)

    def _flag(self, key: str) -> bool:
        value = self.table.get(key, False)
        if not isinstance(value, bool):
            raise self._error(f"{key} = {value!r}: true or false is expected")
        return value

    def _cells(self) -> tuple[str, ...]:
        try:
            patterns = [found for pattern in self._texts("cells", "*") for found in expand_braces(pattern)]
            for pattern in patterns:
                check_pattern(pattern)
        except ValueError as e:
            raise self._error(str(e)) from e
        except UsageError as e:
            raise self._error(str(e), e.hint) from e
        return tuple(patterns)

    def _number(self, key: str) -> Fraction | None:
        value = self.table.get(key)
        if value is None:
            return None
        try:
            # By way of its text: 0.1 in the file is one tenth, not the nearest binary fraction.
            number = Fraction(str(value)) if not isinstance(value, bool) else None
        except (ValueError, ZeroDivisionError):
            number = None
        if number is None or number < 0:
            raise self._error(f"{key} = {value!r}: a number from 0 up is expected, or a fraction such as '1/2'")
        return number

    def _pair(self, text: str) -> tuple[str, str]:
        before, arrow, after = (part.strip() for part in text.partition("->"))
        if not (before and arrow and after):
            raise self._error(f"compare = {text!r}: two variants are expected, as in 'none->both'")
        return before, after
