"""A series' own description, ``series.toml``, as plain data: read, its keys checked, its shapes checked."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvmharness.oracle import oracles
from kvmharness.patches.diff import PatchError
from kvmharness.patches.reading import read_file

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
    """What a file of TOML holds. Raises: PatchError, it cannot be read, or is not TOML."""
    try:
        return tomllib.loads(read_file(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise PatchError(f"{path} is not TOML: {e}") from e
