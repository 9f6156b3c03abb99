"""From a series and a kernel tree to variants: the kernel with none of the patches, each alone, each prefix, all.

Whether the tree already has the series, or a part of it, is found out by undoing it. The tree is never written to: a
variant is the set of files in which it differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from kvmharness.patches.apply import Overlay
from kvmharness.patches.diff import PatchError
from kvmharness.patches.mbox import Patch
from kvmharness.patches.series import PatchSet, Series


@dataclass(frozen=True)
class Variant:
    """One kernel to build.

    Attributes:
        name: none; p1 ... pn: that patch alone; p1-2 ...: the first ones; both or all: the whole series.
        patches: titles of the series' patches that it has.
        files: what differs from the tree: new content by path; None: the file is deleted.
    """

    name: str
    patches: tuple[str, ...]
    files: Mapping[str, bytes | None] = field(repr=False)


@dataclass(frozen=True)
class Plan:
    """What can be built from a series and a tree.

    Attributes:
        series: the series.
        tree: the kernel source; the variants say how they differ from it.
        label: which of its patch sets fits the tree.
        in_tree: for each patch, whether the tree has it already.
        variants: in the order to show them.
        left_out: variants that cannot be made, and why.
        notes: hunks that went somewhere else than they said.
    """

    series: Series
    tree: Path
    label: str
    in_tree: tuple[bool, ...]
    variants: tuple[Variant, ...]
    left_out: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def before(self) -> Overlay:
        """The kernel without the series."""
        return self.source(next(variant for variant in self.variants if not variant.patches))

    @property
    def prefixes(self) -> Mapping[str, int]:
        """The variants that are the kernel after the first so many patches, in order: what bisecting meets."""
        members = memberships(len(self.in_tree))
        found = {name: len(which) for name, which in members.items() if which == tuple(range(len(which)))}
        return dict(sorted(found.items(), key=lambda each: each[1]))

    @property
    def patches(self) -> tuple[str, ...]:
        """The titles of the series' patches, in order."""
        return next(each for each in self.series.sets if each.label == self.label).titles

    def source(self, variant: Variant) -> Overlay:
        """The kernel of a variant."""
        return Overlay(self.tree, variant.files)

    def select(self, names: tuple[str, ...]) -> tuple[Variant, ...]:
        """The variants of these names; all without names.

        Raises:
            PatchError: there is none of that name, with the reason where it could not be made.
        """
        known = {variant.name: variant for variant in self.variants}
        for name in names:
            if name in self.left_out:
                raise PatchError(f"variant {name!r} cannot be made: {self.left_out[name]}")
            if name not in known:
                raise PatchError(f"no variant {name!r} in {self.series.name}", f"There are: {', '.join(known)}.")
        return tuple(known[name] for name in dict.fromkeys(names)) if names else self.variants


def check_names(series: Series, names: tuple[str, ...]) -> None:
    """Refuses variants that the series has in none of its forms, before any kernel is at hand.

    Raises:
        PatchError: naming the first of them.
    """
    known = list(dict.fromkeys(name for each in series.sets for name in memberships(len(each.patches))))
    for name in names:
        if name not in known:
            raise PatchError(f"no variant {name!r} in {series.name}", f"There are: {', '.join(known)}.")


def plan(series: Series, tree: Path) -> Plan:
    """Finds the patch set that fits the tree, and all variants.

    Args:
        series: what :func:`kvmharness.patches.series.load` returned.
        tree: an unpacked kernel source; only read.

    Raises:
        PatchError: the series neither applies to the tree nor is in it; names the hunk and the file.
    """
    if not (tree / "arch/x86/kvm").is_dir():
        raise PatchError(f"{tree} is not an x86 kernel source: it has no arch/x86/kvm")
    start = Overlay(tree)
    if series.without:
        start = _Fitted(series.without, start).base
    fitted = _Fitted(series, start)
    patches = fitted.set.patches
    variants: list[Variant] = []
    left_out: dict[str, str] = {}
    notes: dict[str, None] = {}
    for name, members in memberships(len(patches)).items():
        try:
            overlay = fitted.with_patches(members)
        except PatchError as e:
            left_out[name] = str(e)
            continue
        # Without its neighbours a patch moves by a few lines; of that only the whole series' moves tell anything.
        whole = len(members) == len(patches)
        notes |= dict.fromkeys(f"{name}: {note}" for note in overlay.notes if whole or note.fuzz)
        titles = tuple(patches[i].title for i in members)
        variants.append(Variant(name, titles, dict(sorted(overlay.files.items()))))
    return Plan(series, tree, fitted.set.label, fitted.in_tree, tuple(variants), left_out, tuple(notes))


class _Fitted:
    """A series found to fit a tree.

    Attributes:
        set: the patch set that fits.
        base: the tree without any of the patches.
        in_tree: which of them the tree has.
    """

    def __init__(self, series: Series, start: Overlay) -> None:
        errors: list[tuple[str, PatchError]] = []
        # The newest kernel's patches first: on a tie, they describe a new tree better.
        for candidate in reversed(series.sets):
            try:
                self.in_tree, self._prefixes = _without(candidate, start)
                self.set = candidate
                self.base = self._prefixes[0]
                return
            except PatchError as e:
                errors.append((candidate.label, e))
        label, error = errors[-1]
        if len(errors) == 1:
            raise error
        labels = ", ".join(candidate.label for candidate in series.sets)
        raise PatchError(
            f"{series.name} fits this tree in none of its forms ({labels}); as for {label}: {error}",
            "Make the series' edits for this kernel version, in a folder beside the others.",
            path=error.path,
            hunk=error.hunk,
        )

    def with_patches(self, members: tuple[int, ...]) -> Overlay:
        """The tree with just these patches, by index."""
        known = len(members) if members == tuple(range(len(members))) else 0
        overlay = self._prefixes[known]
        for i in members[known:]:
            overlay = _apply(overlay, self.set.patches[i])
        return overlay


def _without(patch_set: PatchSet, start: Overlay) -> tuple[tuple[bool, ...], list[Overlay]]:
    """Which patches of the set the tree has; and the tree without them, and with the first so many of them."""
    forward: PatchError | None = None
    try:
        return (False,) * len(patch_set.patches), _all(patch_set, start)
    except PatchError as e:
        forward = e
    overlay = start
    present = [False] * len(patch_set.patches)
    for i in reversed(range(len(present))):
        try:
            overlay = overlay.undone(patch_set.patches[i].changes)
            present[i] = True
        except PatchError:
            continue
    if not any(present):
        raise forward
    return tuple(present), _all(patch_set, overlay)


def _all(patch_set: PatchSet, overlay: Overlay) -> list[Overlay]:
    overlays = [replace(overlay, notes=())]
    for patch in patch_set.patches:
        overlays.append(_apply(overlays[-1], patch))
    return overlays


def _apply(overlay: Overlay, patch: Patch) -> Overlay:
    try:
        return overlay.applied(patch.changes)
    except PatchError as e:
        raise PatchError(f"{patch.origin}: {e}", e.hint, path=e.path, hunk=e.hunk) from e


def memberships(count: int) -> dict[str, tuple[int, ...]]:
    """Every variant of a series of so many patches: its name, and the indices of its patches."""
    whole = {1: "p1", 2: "both"}.get(count, "all")
    names: dict[str, tuple[int, ...]] = {"none": ()}
    names |= {f"p{i + 1}": (i,) for i in range(count)}
    names |= {f"p1-{i}": tuple(range(i)) for i in range(2, count)}
    return names | {whole: tuple(range(count))}
