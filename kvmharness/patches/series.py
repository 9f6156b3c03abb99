"""A patch series as input: one that comes with the tool, mails, a folder of patches, or two git revisions.

A folder with a ``series.toml`` also says what the series claims; its patches lie beside it, or in one folder for each
kernel version where they differ. Which folder fits is found out by trying, not from the version's number.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from kvmharness.oracle import oracles
from kvmharness.patches.description import described_by, oracle, shown, tables, toml, word
from kvmharness.patches.diff import PatchError
from kvmharness.patches.gitrange import is_range, patches_between
from kvmharness.patches.mbox import Mails, Patch, read_patches
from kvmharness.system.reading import MAILS, QUILT_SERIES, STANDARD_INPUT, listed, read, read_standard_input, read_text

_DASH = "-"  # mails on the standard input
DESCRIPTION = "series.toml"
_PATCH_SUFFIXES = (".patch", ".diff", ".mbox", ".mbx", ".eml")


@dataclass(frozen=True, slots=True)
class PatchSet:
    """The series as it looks for one kernel version.

    Attributes:
        label: of the version, empty where there is only one.
        patches: in the order in which they apply.
        notes: what of the mails was taken and what was not, a sentence each.
    """

    label: str
    patches: tuple[Patch, ...]
    notes: tuple[str, ...] = ()

    @property
    def titles(self) -> tuple[str, ...]:
        """Of the patches, in order."""
        return tuple(patch.title for patch in self.patches)


@dataclass(frozen=True)
class Series:
    """A patch series.

    Attributes:
        name: short; names the report.
        title: one line: the cover letter's, or the first patch's.
        sets: the patches, per kernel version where that matters.
        oracle: the model that its kernels are held against, a name of :data:`kvmharness.oracle.oracles.NAMES`.
        claims: the ``[[claim]]`` tables as they stand in its file, and in those that were added, for
            :mod:`kvmharness.claims`.
        waivers: the ``[[waive]]`` tables, likewise.
        claims_path: where these were read, for messages.
        without: a series to take out of the kernel first, because this one is an alternative to it.
        notes: what was chosen among several, a sentence each.
    """

    name: str
    title: str
    sets: tuple[PatchSet, ...]
    oracle: str = oracles.DEFAULT
    claims: tuple[Mapping[str, Any], ...] = ()
    waivers: tuple[Mapping[str, Any], ...] = ()
    claims_path: str = ""
    without: "Series | None" = None
    notes: tuple[str, ...] = ()

    @property
    def every_note(self) -> tuple[str, ...]:
        """Its own notes, and those on the mails that it was read from."""
        return (*(note for each in self.sets for note in each.notes), *self.notes)


def shipped() -> tuple[str, ...]:
    """Names of the series that come with the tool."""
    return tuple(sorted(path.name for path in _package_folder().iterdir() if (path / DESCRIPTION).is_file()))


def load(spec: str, *, repository: Path | None = None, claims: str | None = None, claims_only: bool = False) -> Series:
    """A series from what the user typed.

    Args:
        spec: a shipped series' name, a file, a folder, ``A..B``, or ``-`` for mails on the standard input.
        repository: the git repository for ``A..B``.
        claims: a shipped series' name or a TOML file whose claims count besides the series' own.
        claims_only: these count instead of the series' own.

    Raises:
        PatchError: nothing of that name, or it cannot be read; says what is there.
    """
    series = _load(spec, repository)
    return series if claims is None else with_claims(series, claims, alone=claims_only)


def _load(spec: str, repository: Path | None) -> Series:
    path = Path(spec)
    if spec == _DASH:
        mails = read_patches([(STANDARD_INPUT, read_standard_input(MAILS))])
        return _undescribed(_title(mails), mails)
    if spec in shipped():
        return _described(_package_folder() / spec)
    if os.path.isfile(path / DESCRIPTION):  # os.path takes a name that no file can have for one that is not there
        return _described(path)
    if os.path.isdir(path):
        return _undescribed(path.resolve().name, read_patches(_folder(path)))
    if os.path.exists(path):
        return _undescribed(path.name, read_patches([(str(path), read(path, MAILS))]))
    if is_range(spec):
        return _undescribed(spec, patches_between(repository or Path(), spec))
    raise PatchError(
        f"no series {spec!r}: it is not a file, a folder, or a range of git revisions, and not one of those shipped",
        f"Shipped: {', '.join(shipped())}; {_DASH} reads mails from the standard input.",
    )


def _package_folder() -> Path:
    return Path(str(resources.files("kvmharness"))) / "series"


def _undescribed(name: str, mails: Mails) -> Series:
    return Series(name, _title(mails), (PatchSet("", mails.patches, mails.notes),))


def _title(mails: Mails) -> str:
    return mails.cover or mails.patches[0].title


def _described(folder: Path) -> Series:
    path = folder / DESCRIPTION
    data = described_by(path)
    inner = [entry for entry in listed(folder) if entry.is_dir() and _patch_files(entry)]
    sets = tuple(_patch_set(entry.name if inner else "", entry) for entry in inner or [folder])
    series = Series(
        name=word(data, "name", path) or folder.resolve().name,
        title=word(data, "title", path) or sets[0].patches[0].title,
        sets=sets,
        oracle=oracle(data, path, oracles.DEFAULT),
        claims=tables(data, "claim", path),
        waivers=tables(data, "waive", path),
        claims_path=str(path),
        without=_before(data, path),
    )
    source = word(data, "claims-of", path)
    if source.startswith("-"):
        raise PatchError(f"{path}: claims-of = {shown(source)}: a shipped series or a path is expected")
    return with_claims(series, source, folder=folder) if source else series


def _patch_set(label: str, folder: Path) -> PatchSet:
    mails = read_patches(_folder(folder))
    return PatchSet(label, mails.patches, mails.notes)


def with_claims(series: Series, source: str, *, alone: bool = False, folder: Path = Path()) -> Series:
    """The series with the claims and waivers, and the oracle that they are about, of another one.

    Args:
        series: to be held against them.
        source: a shipped series' name, a folder with a series.toml, or a TOML file.
        alone: leaves out what the series claims and waives itself; otherwise claims of the same name are left out.
        folder: where a path that is not absolute begins.

    Raises:
        PatchError: nothing of that name, a key that is not known, or no claims there.
    """
    path = _package_folder() / source / DESCRIPTION if source in shipped() else folder / source
    path = path / DESCRIPTION if os.path.isdir(path) else path
    data = described_by(path)
    claims, waivers = tables(data, "claim", path), tables(data, "waive", path)
    if not claims and not waivers:
        raise PatchError(f"{path} claims nothing", "Write [[claim]] tables there, or leave the file away.")
    names = [claim.get("name") for claim in claims]
    own = () if alone else series.claims
    kept = tuple(claim for claim in own if claim.get("name") not in names)
    lost = [claim.get("name") for claim in own if claim not in kept and claim not in claims]
    return replace(
        series,
        oracle=oracle(data, path, series.oracle),
        claims=(*kept, *claims),
        waivers=waivers if alone else (*series.waivers, *waivers),
        claims_path=f"{series.claims_path} and {path}" if kept else str(path),
        notes=(*series.notes, *(f"claim {name!r} is that of {path}, not the series' own" for name in lost)),
    )


def _before(data: Mapping[str, Any], path: Path) -> "Series | None":
    """The series to take out first; one that takes out another one in turn could go round in a circle."""
    before = word(data, "without", path)
    if not before:
        return None
    other = _package_folder() / before if before in shipped() else Path(before)
    if before not in shipped() and (before.startswith("-") or not os.path.exists(other)):
        hint = f"Name a shipped series ({', '.join(shipped())}), or a file or folder."
        raise PatchError(f"{path}: without = {shown(before)}: no series of that name, and no path", hint)
    if os.path.isfile(other / DESCRIPTION):
        if os.path.samefile(other / DESCRIPTION, path):
            raise PatchError(f"{path}: without = {before!r}: the series names itself")
        if "without" in toml(other / DESCRIPTION):
            raise PatchError(f"{path}: without = {before!r}: that series is itself without another one")
    return _load(before if before in shipped() else os.path.join(".", before), None)


def _patch_files(folder: Path) -> list[Path]:
    return [path for path in listed(folder) if path.suffix in _PATCH_SUFFIXES and path.is_file()]


def _folder(folder: Path) -> list[tuple[str, bytes]]:
    """A folder's patches by name, or in the order of quilt's ``series`` file."""
    order = folder / "series"
    if order.is_file():
        names = [line.split()[0] for line in read_text(order, QUILT_SERIES).splitlines() if line.split("#")[0].split()]
        paths = [folder / name for name in names]
    else:
        paths = _patch_files(folder)
    if not paths:
        raise PatchError(f"no patch in {folder}", f"Files named *{', *'.join(_PATCH_SUFFIXES)} are looked for.")
    return [(str(path), read(path, MAILS)) for path in paths]
