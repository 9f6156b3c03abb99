"""A series made into what can be run: its variants planned, their kernels and modules built, its claims read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kvmharness.claims import Claim, check_variants, net, parse_claims
from kvmharness.claims.waivers import Waiver, parse_waivers
from kvmharness.errors import UsageError
from kvmharness.lab.kernels import build
from kvmharness.lab.kernels.make import KernelBuildError
from kvmharness.lab.kernels.source import Source
from kvmharness.lab.kernels.trees import KVM_FOLDERS
from kvmharness.oracle import oracles
from kvmharness.patches import variants as patches
from kvmharness.patches.series import Series
from kvmharness.results.record import OracleView, VariantId
from kvmharness.system import cache
from kvmharness.system.programs import Progress, silent
from kvmharness.validation.campaign import Variant
from kvmharness.validation.judges import Subject


@dataclass(frozen=True, slots=True)
class Broken:
    """A variant that did not build.

    Attributes:
        variant: its name.
        title: of the last of its patches.
        lines: what the compiler said.
        prefix: the series is broken there; otherwise it is a patch alone, which need not build.
    """

    variant: str
    title: str
    lines: tuple[str, ...]
    prefix: bool


@dataclass(frozen=True, slots=True)
class Built:
    """A series made into modules.

    Attributes:
        plan: which variants there are, and which could not be made.
        kernels: what to boot for each variant; one and the same where only modules change.
        variants: in the order to show them.
        claims: what the series claims.
        waivers: what it asks not to be judged by.
        broken: variants that did not build.
        whole: why a variant has a kernel of its own, by its name.
    """

    plan: patches.Plan
    kernels: Mapping[str, build.Kernel]
    variants: tuple[Variant, ...]
    claims: tuple[Claim, ...]
    waivers: tuple[Waiver, ...] = ()
    broken: tuple[Broken, ...] = ()
    whole: Mapping[str, str] = field(default_factory=dict)

    @property
    def subject(self) -> Subject:
        """What is judged."""
        alone = {each.variant: f"it does not build: {each.lines[-1]}" for each in self.broken if not each.prefix}
        return Subject(
            self.plan.series.name,
            self.plan.patches,
            self.plan.prefixes,
            self.claims,
            self.waivers,
            {f"p{number}": title for number, title in enumerate(self.plan.patches, 1)},
            {**self.plan.left_out, **alone},
        )

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
        KernelBuildError: the kernel without the series does not build.
        UsageError: the kernel is built already, but a variant takes another one than that.
    """
    claims = parse_claims(series.claims, series.claims_path)
    waivers = parse_waivers(series.waivers, (row.name for row in net.ROWS), series.claims_path)
    base = _base(series, source, progress)
    tree = base.tree if base else _unpacked(source, progress)  # type: ignore[arg-type]
    assert tree is not None
    plan = patches.plan(series, tree)
    check_variants(claims, [*(variant.name for variant in plan.variants), *plan.left_out], series.claims_path)
    kernels: dict[str, build.Kernel] = {}
    variants: list[Variant] = []
    broken: list[Broken] = []
    whole: dict[str, str] = {}
    for variant in plan.select(names):
        progress(f"building variant {variant.name} of {series.name}")
        try:
            kernel, modules, why = _made(source, base, variant, progress)
        except KernelBuildError as e:
            if not variant.patches:
                raise  # nobody's patch is to blame
            broken.append(Broken(variant.name, variant.patches[-1], e.lines, variant.name in plan.prefixes))
            continue
        if why and base:
            whole[variant.name] = why
        kernels[variant.name] = kernel
        view = oracles.found(series.oracle, plan.source(variant).read, plan.before.read)
        variants.append(Variant(_identity(variant, kernel, modules, view), modules))
    return Built(plan, kernels, tuple(variants), claims, waivers, tuple(broken), whole)


def _base(series: Series, source: Source | build.Kernel, progress: Progress) -> build.Kernel | None:
    """The kernel whose modules the variants are, as far as they are only that; None when the series is about more.

    Raises:
        UsageError: the kernel is built already, but cannot serve the series.
    """
    if not _stays_near_kvm(series):
        if isinstance(source, build.Kernel):
            raise UsageError(
                f"{series.name} changes more than KVM's modules",
                "Boot each kernel by itself, `kvmharness run --json` under it, then `kvmharness compare`.",
            )
        return None
    base = source if isinstance(source, build.Kernel) else build.kernel(source, progress=progress)
    if base.tree is None:
        raise UsageError(f"there is no built tree of {base.source}", "Give the source that it was built from.")
    return base


# What a built tree still has of its source, so that patches of it can be applied there.
_NEAR_KVM = (*KVM_FOLDERS, "include/", "arch/x86/include/", "Documentation/", "tools/")


def _stays_near_kvm(series: Series) -> bool:
    every = [series, *([series.without] if series.without else [])]
    return all(
        path.startswith(_NEAR_KVM)
        for one in every
        for patch_set in one.sets
        for patch in patch_set.patches
        for change in patch.changes
        for path in (change.old_path, change.new_path)
        if path
    )


def _made(
    source: Source | build.Kernel, base: build.Kernel | None, variant: patches.Variant, progress: Progress
) -> tuple[build.Kernel, Path, str]:
    """What a variant boots, its modules, and why it takes a kernel of its own; empty where it does not.

    Raises:
        UsageError: it takes a kernel of its own, and this one is running.
        KernelBuildError: it does not build.
    """
    why = "the series changes more than KVM"
    if base is not None and base.tree is not None:
        try:
            name = f"variant {variant.name}"
            return base, build.variant(base.tree, variant.files, name=name, progress=progress), ""
        except build.ChangesVmlinuxError as e:
            why = e.why
    if isinstance(source, build.Kernel):
        raise UsageError(
            f"variant {variant.name} needs a kernel of its own: {why}",
            "Boot each kernel by itself, `kvmharness run --json` under it, then `kvmharness compare`; "
            "or use an emulated host.",
        )
    kernel = build.kernel(source, overlay=variant.files, progress=progress)
    return kernel, kernel.modules, why


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
