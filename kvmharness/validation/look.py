"""What is known of a series and a kernel before anything is built, and is therefore refused before that."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kvmharness.cells.cell import Cell
from kvmharness.claims import Claim, check_variants, net, parse_claims
from kvmharness.claims.answerable import Offer, check_answerable
from kvmharness.claims.waivers import Waiver, parse_waivers
from kvmharness.errors import UsageError
from kvmharness.lab.kernels import build, builtin, parameters, statistics
from kvmharness.lab.kernels.source import Source, to_read
from kvmharness.lab.kernels.trees import KVM_FOLDERS
from kvmharness.oracle import oracles
from kvmharness.patches import variants as patches
from kvmharness.patches.series import Series
from kvmharness.system.programs import Progress, silent

# What a built tree still has of its source, so that patches of it can be applied there.
_NEAR_KVM = (*KVM_FOLDERS, "include/", "arch/x86/include/", "Documentation/", "tools/")


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of a series and a kernel before anything is built.

    Attributes:
        series: the series.
        source: the kernel to build, or one that is built already.
        plan: which variants there are, and which cannot be made.
        chosen: the variants to make.
        claims: what the series claims.
        waivers: what it asks not to be judged by.
        parameters: of KVM's modules, those that the series brings included.
        statistics: that KVM keeps, likewise; empty where its source does not tell.
    """

    series: Series
    source: Source | build.Kernel
    plan: patches.Plan
    chosen: tuple[patches.Variant, ...]
    claims: tuple[Claim, ...]
    waivers: tuple[Waiver, ...]
    parameters: frozenset[str]
    statistics: frozenset[str]

    def check_answerable(self, cells: Iterable[Cell], reasons: Iterable[str]) -> None:
        """Refuses claims that no run could answer.

        Args:
            cells: that any of the hosts can run.
            reasons: of the exits that are counted there.

        Raises:
            ClaimError: naming the claim, and what there is instead.
        """
        offer = Offer(frozenset(cells), frozenset(reasons), self.statistics or None)
        check_answerable(self.claims, self.waivers, offer, self.series.claims_path)


def look(
    series: Series,
    source: Source | build.Kernel,
    names: tuple[str, ...] = (),
    *,
    progress: Progress = silent,
) -> Look:
    """Finds out everything that can be known before the first build.

    Args:
        series: see :func:`kvmharness.patches.series.load`.
        source: the kernel to build, or one that is built already; only read.
        names: variants to make; all without names.
        progress: takes a line about once a second.

    Raises:
        PatchError: the series does not fit the kernel, or there is no such variant.
        ClaimError: a claim is not in the vocabulary.
        UsageError: the kernel is built already, and cannot serve the series.
    """
    claims = parse_claims(series.claims, series.claims_path)
    waivers = parse_waivers(series.waivers, (row.name for row in net.ROWS), series.claims_path)
    tree = _tree(series, source, progress)
    plan = patches.plan(series, tree)
    check_variants(claims, [*(variant.name for variant in plan.variants), *plan.left_out], series.claims_path)
    chosen = plan.select(names)
    if isinstance(source, Source):
        built = build.at_hand(source)
        known = parameters.of_modules(built.modules) if built else parameters.of_tree(tree)
    else:
        known = parameters.of_modules(source.modules)
        for variant in chosen:
            if why := builtin.changes(tree, variant.files):
                raise not_by_modules(variant, why)
    # Most texts are those of many variants.
    every = set[tuple[str, bytes | None]]().union(*(variant.files.items() for variant in plan.variants))
    changed = [(path, text) for path, text in every if text is not None]
    return Look(
        series,
        source,
        plan,
        chosen,
        claims,
        waivers,
        known.union(*(parameters.of_files({path: text}) for path, text in changed)),
        statistics.of_tree(tree) | statistics.of_texts(text for _, text in changed),
    )


def _tree(series: Series, source: Source | build.Kernel, progress: Progress) -> Path:
    """The kernel's source, as much of it as the series is about, to be read.

    Raises:
        UsageError: the kernel is built already, but cannot serve the series.
    """
    near = stays_near_kvm(series)
    if isinstance(source, build.Kernel):
        if not near:
            raise UsageError(
                f"{series.name} changes more than KVM's modules",
                "Boot each kernel by itself, `kvmharness run --json` under it, then `kvmharness compare`.",
            )
        if source.tree is None:
            raise UsageError(f"there is no built tree of {source.source}", "Give the source that it was built from.")
        return source.tree
    if near and (built := build.at_hand(source)) and built.tree:
        return built.tree
    return to_read(source, tuple(_touched(series)) if near else (), progress)


def stays_near_kvm(series: Series) -> bool:
    """Whether the kernel's built tree has all that the series is about."""
    return all(path.startswith(_NEAR_KVM) for path in touched_paths(series))


def _touched(series: Series) -> set[str]:
    """The folders near KVM that a series is about, KVM's own, and those that oracles look into."""
    return {
        *KVM_FOLDERS,
        *oracles.READ,
        statistics.FOLDER,
        *(folder for folder in _NEAR_KVM for path in touched_paths(series) if path.startswith(folder)),
    }


def touched_paths(series: Series) -> Iterator[str]:
    """The files that a series changes, in any of its forms."""
    for one in [series, *([series.without] if series.without else [])]:
        for patch in (patch for patch_set in one.sets for patch in patch_set.patches):
            for change in patch.changes:
                yield from filter(None, (change.old_path, change.new_path))


def not_by_modules(variant: patches.Variant, why: str) -> UsageError:
    """The error of a variant that takes another kernel than the one that is running."""
    return UsageError(
        f"variant {variant.name} needs a kernel of its own: {why}",
        "Boot each kernel by itself, `kvmharness run --json` under it, then `kvmharness compare`; "
        "or use an emulated host.",
    )
