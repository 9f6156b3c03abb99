"""A patch series as input: one that comes with the tool, an mbox, a folder of patches, or two git revisions.

A folder with a ``series.toml`` also says what the series claims; its patches lie beside it, or in one folder for each
kernel version where they differ. Which folder fits is found out by trying, not from the version's number.
"""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from kvmharness.oracle import oracles
from kvmharness.patches.diff import PatchError
from kvmharness.patches.gitrange import is_range, patches_between
from kvmharness.patches.mbox import Patch, read_patches

DESCRIPTION = "series.toml"
_PATCH_SUFFIXES = (".patch", ".diff", ".mbox", ".mbx", ".eml")
_KEYS = {"name", "title", "without", "oracle", "claims-of", "claim", "waive"}


@dataclass(frozen=True, slots=True)
class PatchSet:
    """The series as it looks for one kernel version; ``label`` is empty where there is only one."""

    label: str
    patches: tuple[Patch, ...]

    @property
    def titles(self) -> tuple[str, ...]:
        """Of the patches, in order."""
        return tuple(patch.title for patch in self.patches)


@dataclass(frozen=True)
class Series:
    """A patch series.

    Attributes:
        name: short; names the report.
        title: one line.
        sets: the patches, per kernel version where that matters.
        oracle: the model that its kernels are held against, a name of :data:`kvmharness.oracle.oracles.NAMES`.
        claims: the ``[[claim]]`` tables as they stand in its file, and in those that were added, for
            :mod:`kvmharness.claims`.
        waivers: the ``[[waive]]`` tables, likewise.
        claims_path: where these were read, for messages.
        without: a series to take out of the kernel first, because this one is an alternative to it.
    """

    name: str
    title: str
    sets: tuple[PatchSet, ...]
    oracle: str = oracles.DEFAULT
    claims: tuple[Mapping[str, Any], ...] = ()
    waivers: tuple[Mapping[str, Any], ...] = ()
    claims_path: str = ""
    without: "Series | None" = None


def shipped() -> tuple[str, ...]:
    """Names of the series that come with the tool."""
    return tuple(sorted(path.name for path in _package_folder().iterdir() if (path / DESCRIPTION).is_file()))


def load(spec: str, *, repository: Path | None = None, claims: str | None = None, claims_only: bool = False) -> Series:
    """A series from what the user typed.

    Args:
        spec: a shipped series' name, a file, a folder, or ``A..B``.
        repository: the git repository for ``A..B``.
        claims: a shipped series' name or a TOML file whose claims count beside the series' own.
        claims_only: they count instead of these.

    Raises:
        PatchError: nothing of that name, or it cannot be read; says what is there.
    """
    series = _load(spec, repository)
    return series if claims is None else with_claims(series, claims, alone=claims_only)


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
    return Series(name, patches[0].title, (PatchSet("", patches),))


def _described(folder: Path) -> Series:
    path = folder / DESCRIPTION
    data = _toml(path)
    _refuse_unknown(data, path, _KEYS)
    inner = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and _patch_files(entry)]
    folders = inner or [folder]
    sets = tuple(PatchSet(entry.name if inner else "", read_patches(_folder(entry))) for entry in folders)
    series = Series(
        name=str(data.get("name", folder.name)),
        title=str(data.get("title", sets[0].patches[0].title)),
        sets=sets,
        oracle=_oracle(data, path, oracles.DEFAULT),
        claims=tuple(data.get("claim", ())),
        waivers=tuple(data.get("waive", ())),
        claims_path=str(path),
        without=_load(data["without"], None) if "without" in data else None,
    )
    return with_claims(series, data["claims-of"], folder=folder) if "claims-of" in data else series


def with_claims(series: Series, source: str, *, alone: bool = False, folder: Path = Path()) -> Series:
    """The series with the claims and waivers, and the oracle that they are about, of another one.

    Args:
        series: to be held against them.
        source: a shipped series' name, a folder with a series.toml, or a TOML file.
        alone: leaves out what the series claims and waives itself.
        folder: where a path that is not absolute begins.

    Raises:
        PatchError: nothing of that name, a key that is not known, or no claims there.
    """
    path = _package_folder() / source / DESCRIPTION if source in shipped() else folder / source
    path = path / DESCRIPTION if path.is_dir() else path
    data = _toml(path)
    _refuse_unknown(data, path, _KEYS)
    claims, waivers = tuple(data.get("claim", ())), tuple(data.get("waive", ()))
    if not claims and not waivers:
        raise PatchError(f"{path} claims nothing", "Write [[claim]] tables there, or leave the file away.")
    return replace(
        series,
        oracle=_oracle(data, path, series.oracle),
        claims=claims if alone else (*series.claims, *claims),
        waivers=waivers if alone else (*series.waivers, *waivers),
        claims_path=str(path),
    )


def _oracle(data: Mapping[str, Any], path: Path, default: str) -> str:
    name = data.get("oracle", default)
    if name not in oracles.NAMES:
        raise PatchError(f"{path}: oracle = {name!r} is none", f"Known: {', '.join(oracles.NAMES)}.")
    return str(name)


def _refuse_unknown(data: Mapping[str, Any], path: Path, known: Collection[str]) -> None:
    if unknown := sorted(set(data) - set(known)):
        raise PatchError(f"{path}: unknown key {unknown[0]!r}", f"Known keys: {', '.join(sorted(known))}.")


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
