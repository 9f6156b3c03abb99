"""A patch series as input: one that comes with the tool, an mbox, a folder of patches, or two git revisions.

A folder with a ``series.toml`` also says what the series claims; its patches lie beside it, or in one folder for each
kernel version where they differ. Which folder fits is found out by trying, not from the version's number.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from kvmharness.oracle import oracles
from kvmharness.patches.diff import PatchError
from kvmharness.patches.gitrange import is_range, patches_between
from kvmharness.patches.mbox import Patch, read_patches

DESCRIPTION = "series.toml"
DEFAULT_CLAIMS = "default-claims.toml"
_PATCH_SUFFIXES = (".patch", ".diff", ".mbox", ".mbx", ".eml")
_KEYS = {"name", "title", "without", "oracle", "claims-of", "claim"}


@dataclass(frozen=True, slots=True)
class PatchSet:
    """The series as it looks for one kernel version; ``label`` is empty where there is only one."""

    label: str
    patches: tuple[Patch, ...]


@dataclass(frozen=True)
class Series:
    """A patch series.

    Attributes:
        name: short; names the report.
        title: one line.
        sets: the patches, per kernel version where that matters.
        oracle: the model that its kernels are held against, a name of :data:`kvmharness.oracle.oracles.NAMES`.
        claims: the ``[[claim]]`` tables as they stand in the file, for :mod:`kvmharness.claims`.
        claims_path: where these were read, for messages.
        without: a series to take out of the kernel first, because this one is an alternative to it.
    """

    name: str
    title: str
    sets: tuple[PatchSet, ...]
    oracle: str = oracles.DEFAULT
    claims: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)
    claims_path: str = ""
    without: "Series | None" = None


def shipped() -> tuple[str, ...]:
    """Names of the series that come with the tool."""
    return tuple(sorted(path.name for path in _package_folder().iterdir() if (path / DESCRIPTION).is_file()))


def load(spec: str, *, repository: Path | None = None, claims: str | None = None) -> Series:
    """A series from what the user typed.

    Args:
        spec: a shipped series' name, a file, a folder, or ``A..B``.
        repository: the git repository for ``A..B``.
        claims: a shipped series' name or a TOML file whose claims count instead of the series' own.

    Raises:
        PatchError: nothing of that name, or it cannot be read; says what is there.
    """
    series = _load(spec, repository)
    return series if claims is None else _with_claims_of(series, claims, Path())


def _load(spec: str, repository: Path | None) -> Series:
    path = Path(spec)
    if spec in shipped():
        return _described(_package_folder() / spec)
    if (path / DESCRIPTION).is_file():
        return _described(path)
    if path.is_dir():
        return _undescribed(path.resolve().name, read_patches(_folder(path)))
    if path.is_file():
        return _undescribed(path.name, read_patches([(str(path), _read(path))]))
    if is_range(spec):
        return _undescribed(spec, patches_between(repository or Path(), spec))
    raise PatchError(
        f"no series {spec!r}: it is not a file, a folder, or a range of git revisions, and not one of those shipped",
        f"Shipped: {', '.join(shipped())}.",
    )


def _package_folder() -> Path:
    return Path(str(resources.files("kvmharness"))) / "series"


def _undescribed(name: str, patches: tuple[Patch, ...]) -> Series:
    defaults = _package_folder() / DEFAULT_CLAIMS
    tables = tuple(_toml(defaults).get("claim", ()))
    return Series(name, patches[0].title, (PatchSet("", patches),), claims=tables, claims_path=str(defaults))


def _described(folder: Path) -> Series:
    path = folder / DESCRIPTION
    data = _toml(path)
    _refuse_unknown(data, path)
    inner = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and _patch_files(entry)]
    folders = inner or [folder]
    sets = tuple(PatchSet(entry.name if inner else "", read_patches(_folder(entry))) for entry in folders)
    series = Series(
        name=str(data.get("name", folder.name)),
        title=str(data.get("title", sets[0].patches[0].title)),
        sets=sets,
        oracle=_oracle(data, path, oracles.DEFAULT),
        claims=tuple(data.get("claim", ())),
        claims_path=str(path),
        without=_load(data["without"], None) if "without" in data else None,
    )
    return _with_claims_of(series, data["claims-of"], folder) if "claims-of" in data else series


def _with_claims_of(series: Series, source: str, folder: Path) -> Series:
    """The series with the claims, and the oracle that they are about, of another one."""
    path = _package_folder() / source / DESCRIPTION if source in shipped() else folder / source
    data = _toml(path / DESCRIPTION if path.is_dir() else path)
    return Series(
        name=series.name,
        title=series.title,
        sets=series.sets,
        oracle=_oracle(data, path, series.oracle),
        claims=tuple(data.get("claim", ())),
        claims_path=str(path),
        without=series.without,
    )


def _oracle(data: Mapping[str, Any], path: Path, default: str) -> str:
    name = data.get("oracle", default)
    if name not in oracles.NAMES:
        raise PatchError(f"{path}: oracle = {name!r} is none", f"Known: {', '.join(oracles.NAMES)}.")
    return str(name)


def _refuse_unknown(data: Mapping[str, Any], path: Path) -> None:
    if unknown := sorted(set(data) - _KEYS):
        raise PatchError(f"{path}: unknown key {unknown[0]!r}", f"Known keys: {', '.join(sorted(_KEYS))}.")


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_read(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise PatchError(f"{path} is not TOML: {e}") from e


def _patch_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix in _PATCH_SUFFIXES and path.is_file()]


def _folder(folder: Path) -> list[tuple[str, bytes]]:
    """A folder's patches by name, or in the order of quilt's ``series`` file."""
    order = folder / "series"
    if order.is_file():
        names = [
            line.split()[0]
            for line in _read(order).decode("utf-8", "replace").splitlines()
            if line.split("#")[0].split()
        ]
        paths = [folder / name for name in names]
    else:
        paths = _patch_files(folder)
    if not paths:
        raise PatchError(f"no patch in {folder}", f"Files named *{', *'.join(_PATCH_SUFFIXES)} are looked for.")
    return [(str(path), _read(path)) for path in paths]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise PatchError(f"cannot read {path}: {e.strerror} (errno {e.errno})") from e
