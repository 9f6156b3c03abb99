"""Reads the tables in which a series says what it claims and what it waives; anything not understood is an error."""

from collections.abc import Collection, Mapping
from fractions import Fraction
from typing import Any

from kvmharness.cells.labels import check_pattern
from kvmharness.errors import UsageError


class ClaimError(UsageError):
    """A claim says something that is not in the vocabulary."""


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


class Table:
    """One table of a series' file while it is read; every method raises :class:`ClaimError` and names the place."""

    def __init__(self, table: Mapping[str, Any], where: str) -> None:
        self.table = table
        self.where = f"{where} ({table['name']!r})" if isinstance(table.get("name"), str) else where

    def refuse_unknown(self, known: Collection[str]) -> None:
        if unknown := sorted(set(self.table) - set(known)):
            raise self.error(f"unknown key {unknown[0]!r}", f"Known keys: {', '.join(sorted(known))}.")

    def error(self, what: str, hint: str = "") -> ClaimError:
        return ClaimError(f"{self.where}: {what}", hint)

    def text(self, key: str) -> str:
        value = self.table.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"{key} = {value!r}: a text is expected")
        return value

    def texts(self, key: str, default: str) -> tuple[str, ...]:
        value = self.table.get(key, default)
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise self.error(f"{key} = {value!r}: a text or a list of texts is expected")
        return tuple(texts)

    def word(self, key: str, words: list[str], default: str = "") -> str:
        value = self.table.get(key, default)
        if value not in words:
            raise self.error(f"{key} = {value!r} is not in the vocabulary", f"Known: {', '.join(words)}.")
        return str(value)

    def flag(self, key: str) -> bool:
        value = self.table.get(key, False)
        if not isinstance(value, bool):
            raise self.error(f"{key} = {value!r}: true or false is expected")
        return value

    def cells(self) -> tuple[str, ...]:
        try:
            patterns = [found for pattern in self.texts("cells", "*") for found in expand_braces(pattern)]
            for pattern in patterns:
                check_pattern(pattern)
        except ValueError as e:
            raise self.error(str(e)) from e
        except UsageError as e:
            raise self.error(str(e), e.hint) from e
        return tuple(patterns)

    def number(self, key: str) -> Fraction | None:
        value = self.table.get(key)
        if value is None:
            return None
        try:
            # By way of its text: 0.1 in the file is one tenth, not the nearest binary fraction.
            number = Fraction(str(value)) if not isinstance(value, bool) else None
        except (ValueError, ZeroDivisionError):
            number = None
        if number is None or number < 0:
            raise self.error(f"{key} = {value!r}: a number from 0 up is expected, or a fraction such as '1/2'")
        return number
