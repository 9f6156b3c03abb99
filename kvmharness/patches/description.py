"""A series' own description, ``series.toml``, as plain data: read, its keys checked, its shapes checked."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvmharness.oracle import oracles
from kvmharness.patches.diff import PatchError
from kvmharness.system.reading import TOML, fault, read_text, too_deep

_KEYS = {"name", "title", "without", "oracle", "claims-of", "claim", "waive"}


def described_by(path: Path) -> dict[str, Any]:
    """The description in a file.

    Raises:
        PatchError: it cannot be read, is not TOML, or has a key that is not known.
    """
    data = toml(path)
    if unknown := sorted(set(data) - _KEYS):
        raise PatchError(f"{path}: unknown key {unknown[0]!r}", f"Known keys: {', '.join(sorted(_KEYS))}.")
    return data


def tables(data: Mapping[str, Any], key: str, path: Path) -> tuple[Mapping[str, Any], ...]:
    """The tables under a key. Raises: PatchError, it holds something else."""
    found = data.get(key, [])
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise PatchError(f"{path}: {key} is no list of tables", f"Write [[{key}]] above each of them.")
    return tuple(found)


def word(data: Mapping[str, Any], key: str, path: Path) -> str:
    """A text, empty where there is none. Raises: PatchError, it is something else."""
    value = data.get(key, "")
    if not isinstance(value, str):
        raise PatchError(f"{path}: {key} = {value!r}: a text is expected")
    return value


def oracle(data: Mapping[str, Any], path: Path, default: str) -> str:
    """The name of the oracle. Raises: PatchError, there is none of that name."""
    name = data.get("oracle", default)
    if name not in oracles.NAMES:
        raise PatchError(f"{path}: oracle = {name!r} is none", f"Known: {', '.join(oracles.NAMES)}.")
    return str(name)


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
