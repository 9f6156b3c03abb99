"""Strict reading of JSON: a reader takes a value and the place it stands at, and returns it with its type or raises."""

import json
import re
from collections.abc import Callable, Collection
from typing import Self, TypeGuard, TypeVar, cast

from kvmharness.errors import UsageError

T = TypeVar("T")
_MISSING = object()
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class ShapeError(UsageError):
    """A JSON document does not have the shape it must have; the text names the place."""


def parse(text: bytes) -> object:
    """The JSON value in *text*.

    Raises:
        ShapeError: not UTF-8, not JSON, cut off, nested without end, or using NaN, which JSON does not know.
    """
    try:
        value: object = json.loads(text.decode(), parse_constant=_refuse_constant)
    except RecursionError:
        raise ShapeError("nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, an integer of thousands of digits
        raise ShapeError(f"not JSON, or cut off: {error}") from None
    if _SURROGATE.search(text) and not _is_text(value):
        raise ShapeError("half a surrogate pair, which is no text and could not be printed")
    return value


def _is_text(value: object) -> bool:
    """Whether all strings of a JSON value have an encoding."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _wrong(where: str, wanted: str, value: object) -> ShapeError:
    seen = repr(value)
    return ShapeError(
        f"{where or 'document'}: expected {wanted}, found {seen if len(seen) < 60 else seen[:57] + '...'}"
    )


def text(value: object, where: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise _wrong(where, "a string", value)
    return value


def integer(value: object, where: str) -> int:
    """An integer of 64 bits, with or without a sign; true and false are none."""
    if type(value) is not int:  # bool is a subclass of int, and is not a number here
        raise _wrong(where, "an integer", value)
    if not -(1 << 63) <= value < 1 << 64:
        raise _wrong(where, "64 bits", value)
    return value


def number(value: object, where: str) -> float:
    """A finite number."""
    # json reads 1e999 as infinity, and an integer may be too wide for a float
    if type(value) not in (float, int) or not abs(value) < 1e300:  # type: ignore[arg-type]
        raise _wrong(where, "a number", value)
    return float(value)  # type: ignore[arg-type]


def boolean(value: object, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise _wrong(where, "true or false", value)
    return value


def an_object(value: object, where: str) -> dict[str, object]:
    """An object."""
    if not isinstance(value, dict):
        raise _wrong(where, "an object", value)
    return value


def list_of(item: Callable[[object, str], T]) -> Callable[[object, str], tuple[T, ...]]:
    """A reader of lists of what *item* reads."""

    def read(value: object, where: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise _wrong(where, "a list", value)
        return tuple(item(entry, f"{where}[{index}]") for index, entry in enumerate(value))

    return read


def map_of(item: Callable[[object, str], T]) -> Callable[[object, str], dict[str, T]]:
    """A reader of objects whose values *item* reads."""

    def read(value: object, where: str) -> dict[str, T]:
        return {key: item(entry, f"{where}.{key}") for key, entry in an_object(value, where).items()}

    return read


def or_none(item: Callable[[object, str], T]) -> Callable[[object, str], T | None]:
    """A reader of null, or what *item* reads."""
    return lambda value, where: None if value is None else item(value, where)


def hexadecimal(value: object, where: str) -> bytes:
    """Bytes, two digits each."""
    try:
        return bytes.fromhex(text(value, where))
    except ValueError:
        raise _wrong(where, "bytes in hexadecimal", value) from None


def _are_integers(values: Collection[object]) -> TypeGuard[Collection[int]]:
    """Whether :func:`integer` takes all of them: without a call for each, of which a record has a million."""
    if set(map(type, values)) - {int}:
        return False
    whole = cast(Collection[int], values)
    return min(whole, default=0) >= -(1 << 63) and max(whole, default=0) < 1 << 64


def integers(value: object, where: str) -> tuple[int, ...]:
    """A list of integers."""
    if isinstance(value, list) and _are_integers(value):
        return tuple(value)
    return list_of(integer)(value, where)  # names the one that is none


def integer_map(value: object, where: str) -> dict[str, int]:
    """An object whose values are integers."""
    values = an_object(value, where).values()
    return dict(cast(dict[str, int], value)) if _are_integers(values) else map_of(integer)(value, where)


texts = list_of(text)
text_map = map_of(text)


class Fields:
    """One JSON object being read, as a context: every field is taken once, and none may be left over at the end."""

    def __init__(self, value: object, where: str = "") -> None:
        self._left = dict(an_object(value, where))
        self._where = where

    def __enter__(self) -> Self:
        return self

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, reader: Callable[[object, str], T]) -> T:
        """The field *name* as *reader* reads it.

        Raises:
            ShapeError: it is missing, or has another type.
        """
        where = f"{self._where}.{name}" if self._where else name
        value = self._left.pop(name, _MISSING)
        if value is _MISSING:
            raise ShapeError(f"{where}: missing")
        return reader(value, where)

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        if failed is None and self._left:
            raise ShapeError(f"{self._where or 'document'}: unknown field {next(iter(self._left))!r}")
