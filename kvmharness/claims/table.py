"""Reads the tables in which a series says what it claims and what it waives; anything not understood is an error."""

import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from fractions import Fraction
from typing import Any

from kvmharness.cells.labels import check_pattern
from kvmharness.errors import UsageError
from kvmharness.patches.description import found, shown

_LONGEST_PATTERN = 1000  # characters
_MOST_PATTERNS = 1000  # that one with braces may stand for
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12}|/[0-9]{1,12})?")
_LARGEST = 10**12


def fraction(text: str) -> Fraction | None:
    """The number that a text is: ``0``, ``0.5`` or ``1/2``; None for another text.

    A power of ten is none of them: it would be worked out, whatever it is.
    """
    if _NUMBER.fullmatch(text):
        with suppress(ZeroDivisionError):
            return Fraction(text)
    return None


class ClaimError(UsageError):
    """A claim says something that is not in the vocabulary."""


def expand_braces(pattern: str) -> tuple[str, ...]:
    """``a:{1,2}x1`` as ``a:1x1`` and ``a:2x1``; braces do not nest.

    Raises:
        ValueError: they do, one is missing, or the pattern is too long or stands for too many.
    """
    if len(pattern) > _LONGEST_PATTERN:
        raise ValueError(f"the pattern {shown(pattern)} is longer than {_LONGEST_PATTERN} characters, the limit")
    head, *groups = pattern.split("{")
    made = [head]
    for group in groups:
        inner, closed, tail = group.partition("}")
        if not closed:
            raise ValueError(f"the braces of {shown(pattern)} are not balanced, or nest")
        choices = inner.split(",")
        if len(made) * len(choices) > _MOST_PATTERNS:
            raise ValueError(f"{shown(pattern)} stands for more than {_MOST_PATTERNS} patterns, the limit")
        made = [before + choice + tail for before in made for choice in choices]
    return tuple(made)


class Table:
    """One table of a series' file while it is read; every method raises :class:`ClaimError` and names the place."""

    def __init__(self, table: Mapping[str, Any], where: str) -> None:
        self.table = table
        self.where = f"{where} ({table['name']!r})" if isinstance(table.get("name"), str) else where

    def refuse_unknown(self, known: Collection[str]) -> None:
        if unknown := sorted(set(self.table) - set(known)):
            raise self.error(f"unknown key {shown(unknown[0])}", f"Known keys: {', '.join(sorted(known))}.")

    def error(self, what: str, hint: str = "") -> ClaimError:
        return ClaimError(f"{self.where}: {what}", hint)

    def wrong(self, key: str, value: object, *types: type) -> str:
        """A value as a message begins with it; with its type, where that is none of *types*."""
        return f"{key} is missing" if value is None else f"{key} = {(shown if type(value) in types else found)(value)}"

    def text(self, key: str) -> str:
        value = self.table.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"{self.wrong(key, value, str)}: a text is expected")
        return value

    def texts(self, key: str, default: str) -> tuple[str, ...]:
        value = self.table.get(key, default)
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            wrong = [each for each in texts if not isinstance(each, str)] if isinstance(texts, list) else []
            raise self.error(f"{key} = {found(wrong[0] if wrong else value)}: a text or a list of texts is expected")
        return tuple(texts)

    def word(self, key: str, words: list[str], default: str = "") -> str:
        value = self.table.get(key, default)
        if not isinstance(value, str) or value not in words:
            raise self.error(f"{self.wrong(key, value, str)} is not in the vocabulary", f"Known: {', '.join(words)}.")
        return value

    def flag(self, key: str) -> bool:
        value = self.table.get(key, False)
        if not isinstance(value, bool):
            raise self.error(f"{key} = {found(value)}: true or false is expected")
        return value

    def cells(self) -> tuple[str, ...]:
        texts = self.texts("cells", "*")
        try:
            patterns = [each for pattern in texts for each in expand_braces(pattern)]
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
        # By way of its text: 0.1 in the file is one tenth, not the nearest binary fraction.
        number = None
        if isinstance(value, str):
            number = fraction(value)
        elif type(value) in (int, float) and 0 <= value < _LARGEST:
            number = Fraction(str(value))
        if number is None:
            said = self.wrong(key, value, str, int, float)
            hint = f"Numbers are smaller than {_LARGEST}."
            raise self.error(f"{said}: a number from 0 up is expected, or a fraction such as '1/2'", hint)
        return number
