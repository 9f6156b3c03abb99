"""A series' own description, ``series.toml``, as plain data: read, its keys checked, its shapes checked."""

import re
import tomllib
from collections.abc import Mapping
from datetime import date, time
from pathlib import Path
from typing import Any

from kvmharness.oracle import oracles
from kvmharness.patches.diff import PatchError
from kvmharness.system.reading import TOML, fault, read_text, too_deep

_SHOWN = 60  # characters of a value, in a message
_TYPES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "a truth value"),  # before int, of which it is one
    (int, "an integer"),
    (float, "a number"),
    (str, "a text"),
    (list, "a list"),
    (dict, "a table"),
    ((date, time), "a date or a time"),
)
_KEYS = {"name", "title", "without", "oracle", "claims-of", "claim", "waive"}


def found(value: object) -> str:
    """A value of a file of TOML and its type, for messages."""
    kind = next((name for types, name in _TYPES if isinstance(value, types)), "nothing")
    return f"{shown(value)}, {kind}"


def shown(value: object) -> str:
    """A value of a file of TOML as a message shows it: its beginning, where it is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits, which hexadecimal ones may have
        text = "a value of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def described_by(path: Path) -> dict[str, Any]:
    """The description in a file.

    Raises:
        PatchError: it cannot be read, is not TOML, or has a key that is not known.
    """
    data = toml(path)
    if unknown := sorted(set(data) - _KEYS):
        raise PatchError(f"{path}: unknown key {shown(unknown[0])}", f"Known keys: {', '.join(sorted(_KEYS))}.")
    return data


def tables(data: Mapping[str, Any], key: str, path: Path) -> tuple[Mapping[str, Any], ...]:
    """The tables under a key. Raises: PatchError, it holds something else."""
    value = data.get(key, [])
    wrong = [table for table in value if not isinstance(table, dict)] if isinstance(value, list) else [value]
    if wrong:
        hint = f"Write [[{key}]] above each of them."
        raise PatchError(f"{path}: {key} = {found(wrong[0])}: no list of tables, which is expected", hint)
    return tuple(value)


def word(data: Mapping[str, Any], key: str, path: Path) -> str:
    """A text, empty where there is none. Raises: PatchError, it is something else."""
    value = data.get(key, "")
    if not isinstance(value, str):
        raise PatchError(f"{path}: {key} = {found(value)}: a text is expected")
    return value


def oracle(data: Mapping[str, Any], path: Path, default: str) -> str:
    """The name of the oracle. Raises: PatchError, there is none of that name."""
    name = data.get("oracle", default)
    if not isinstance(name, str) or name not in oracles.NAMES:
        said = shown(name) if isinstance(name, str) else found(name)
        raise PatchError(f"{path}: oracle = {said} is none", f"Known: {', '.join(oracles.NAMES)}.")
    return name


def toml(path: Path) -> dict[str, Any]:
    """What a file of TOML holds. Raises: ReadError, it cannot be read, is nested too deeply, or is not TOML."""
    content = read_text(path, TOML)
    # A key of n parts makes tables n deep, and costs the parser n * n; what stands between these is one key or less.
    if any(part.count(".") > TOML.deepest for part in re.split(r"[=,{\[\n]", content)):
        raise too_deep(str(path), TOML)
    try:
        return tomllib.loads(content)
    except RecursionError:
        raise too_deep(str(path), TOML) from None
    except ValueError as error:  # TOMLDecodeError, an integer of thousands of digits, a date that there is not
        raise fault(str(path), TOML, f"it is not TOML: {error}") from None
