"""A series made into what can be run: its variants planned, their kernels and modules built, its claims read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kvmharness.claims import Claim
from kvmharness.claims.waivers import Waiver
from kvmharness.lab.kernels import build
from kvmharness.lab.kernels.config import MINIMAL, Recipe
from kvmharness.lab.kernels.make import KernelBuildError
from kvmharness.lab.kernels.source import Source
from kvmharness.oracle import oracles
from kvmharness.patches import variants as patches
from kvmharness.patches.series import Series
from kvmharness.results.record import OracleView, VariantId
from kvmharness.system.programs import Progress, silent
from kvmharness.validation.campaign import Variant
from kvmharness.validation.judges import Subject
from kvmharness.validation.look import Look, look, not_by_modules, stays_near_kvm


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
    """:func:`look`, then :func:`make`."""
    return make(look(series, source, names, progress=progress), progress=progress)


def make(seen: Look, *, recipe: Recipe = MINIMAL, progress: Progress = silent) -> Built:
    """Builds the variants.

    Args:
        seen: what there is to build.
        recipe: of their kernel, unless that is built already.
        progress: takes a line about once a second.

    Raises:
        KernelBuildError: the kernel without the series does not build.
        UsageError: the kernel is built already, but a variant takes another one than that.
    """
    series, source, plan = seen.series, seen.source, seen.plan
    base = _base(series, source, recipe, progress)
    kernels: dict[str, build.Kernel] = {}
    variants: list[Variant] = []
    broken: list[Broken] = []
    whole: dict[str, str] = {}
    for variant in seen.chosen:
        progress(f"building variant {variant.name} of {series.name}{recipe.name and f', {recipe.name}'}")
        try:
            kernel, modules, why = _made(source, base, variant, recipe, progress)
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
    return Built(plan, kernels, tuple(variants), seen.claims, seen.waivers, tuple(broken), whole)


def _base(series: Series, source: Source | build.Kernel, recipe: Recipe, progress: Progress) -> build.Kernel | None:
    """The kernel whose modules the variants are, as far as they are only that; None when the series is about more."""
    if isinstance(source, build.Kernel):
        return source
    return build.kernel(source, recipe=recipe, progress=progress) if stays_near_kvm(series) else None


def _made(
    source: Source | build.Kernel,
    base: build.Kernel | None,
    variant: patches.Variant,
    recipe: Recipe,
    progress: Progress,
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
        raise not_by_modules(variant, why)
    kernel = build.kernel(source, overlay=variant.files, recipe=recipe, progress=progress)
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
