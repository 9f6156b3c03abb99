"""A series made into what can be run: its variants planned, their kernels and modules built, its claims read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kvmharness.claims import Claim, check_variants, parse_claims
from kvmharness.errors import UsageError
from kvmharness.lab.kernels import build
from kvmharness.lab.kernels.source import Source
from kvmharness.oracle import oracles
from kvmharness.patches import variants as patches
from kvmharness.patches.series import Series
from kvmharness.results.record import OracleView, VariantId
from kvmharness.system import cache
from kvmharness.system.programs import Progress, silent
from kvmharness.validation.campaign import Variant


@dataclass(frozen=True, slots=True)
class Built:
    """A series made into modules.

    Attributes:
        plan: which variants there are, and which could not be made.
        kernels: what to boot for each variant; one and the same where only modules change.
        variants: in the order to show them.
        claims: what the series claims.
    """

    plan: patches.Plan
    kernels: Mapping[str, build.Kernel]
    variants: tuple[Variant, ...]
    claims: tuple[Claim, ...]

    @property
    def one_boot(self) -> bool:
        """Whether all variants run under one kernel."""
        return len({kernel.image for kernel in self.kernels.values()}) == 1


def prepare(
    series: Series,
    source: Source | build.Kernel,
    names: tuple[str, ...] = (),
    *,
    progress: Progress = silent,
) -> Built:
    """Builds every variant of a series, and checks its claims' wording before that.

    Args:
        series: see :func:`kvmharness.patches.series.load`.
        source: the kernel to build, or one that is built already; never written to.
        names: variants to make; all without names.
        progress: takes a line about once a second.

    Raises:
        PatchError: the series does not fit the kernel, or there is no such variant.
        ClaimError: a claim is not in the vocabulary.
        KernelBuildError: names the variant, with the compiler's lines.
        UsageError: the kernel is built already, but the series changes more than KVM's modules.
    """
    claims = parse_claims(series.claims, series.claims_path)
    base: build.Kernel | None = None
    if _modules_only(series):
        base = source if isinstance(source, build.Kernel) else build.kernel(source, progress=progress)
        if base.tree is None:
            raise UsageError(f"there is no built tree of {base.source}", "Give the source that it was built from.")
        tree = base.tree
    elif isinstance(source, build.Kernel):
        raise UsageError(
            f"{series.name} changes more than KVM's modules",
            "Boot each kernel by itself, `kvmharness run --json` under it, then `kvmharness compare`.",
        )
    else:
        tree = _unpacked(source, progress)
    plan = patches.plan(series, tree)
    check_variants(claims, [*(variant.name for variant in plan.variants), *plan.left_out], series.claims_path)
    chosen = plan.select(names)
    kernels: dict[str, build.Kernel] = {}
    variants: list[Variant] = []
    for variant in chosen:
        progress(f"building variant {variant.name} of {series.name}")
        kernel = base or _whole_kernel(source, variant, progress)
        modules = _modules(kernel, variant, whole=base is None, progress=progress)
        kernels[variant.name] = kernel
        view = oracles.found(series.oracle, plan.source(variant).read, plan.before.read)
        variants.append(Variant(_identity(variant, kernel, modules, view), modules))
    return Built(plan, kernels, tuple(variants), claims)


def _modules_only(series: Series) -> bool:
    every = [series, *([series.without] if series.without else [])]
    return all(
        build.is_modules_only(path)
        for one in every
        for patch_set in one.sets
        for patch in patch_set.patches
        for change in patch.changes
        for path in (change.old_path, change.new_path)
        if path
    )


def _whole_kernel(source: Source | build.Kernel, variant: patches.Variant, progress: Progress) -> build.Kernel:
    assert not isinstance(source, build.Kernel)
    return build.kernel(source, overlay=variant.files, progress=progress)


def _modules(kernel: build.Kernel, variant: patches.Variant, *, whole: bool, progress: Progress) -> Path:
    if whole or kernel.tree is None:
        return kernel.modules
    return build.variant(kernel.tree, variant.files, name=f"variant {variant.name}", progress=progress)


def _identity(variant: patches.Variant, kernel: build.Kernel, modules: Path, view: OracleView | None) -> VariantId:
    return VariantId(
        name=variant.name,
        source=kernel.source,
        patches=variant.patches,
        config_hash=kernel.config_hash,
        build_id=build.modules_id(modules),
        oracle=view,
    )


def _unpacked(source: Source, progress: Progress) -> Path:
    """The source as a folder to read, for a series that touches more than KVM."""
    if source.path.is_dir():
        return source.path

    def unpack(folder: Path) -> None:
        progress(f"unpacking {source.name}")
        (folder / "tree").mkdir()
        source.unpack(folder / "tree")

    return cache.folder_entry("sources", cache.digest(source.identity()), unpack, progress) / "tree"
