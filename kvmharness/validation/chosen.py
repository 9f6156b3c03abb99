"""What a user's options mean for one boot: a kernel with its KVM modules, or variants of a series made for it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from kvmharness.lab.kernels import build, parameters
from kvmharness.lab.kernels.choice import KernelChoice
from kvmharness.lab.kernels.config import MINIMAL, Recipe
from kvmharness.lab.kernels.make import KernelBuildError
from kvmharness.lab.kernels.source import Source
from kvmharness.lab.kernels.source import chosen as chosen_source
from kvmharness.oracle import oracles
from kvmharness.patches.apply import Overlay
from kvmharness.results.record import OracleView, VariantId
from kvmharness.system.programs import Progress, silent
from kvmharness.validation.campaign import Variant
from kvmharness.validation.hostbase import Of

NONE = "none"
"""The variant without any of a series' patches."""
AS_IT_IS = "host"
"""What the modules of a kernel are called where there is no series."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Modules to load, and the kernel to boot for them."""

    kernel: build.Kernel
    variant: Variant


def chosen(
    kernel: KernelChoice,
    of: Of | None = None,
    *,
    beside_none: bool = False,
    has: tuple[str, ...] | None = None,
    wanted: Iterable[str] = (),
    recipe: Recipe = MINIMAL,
    progress: Progress = silent,
) -> tuple[Chosen, ...]:
    """Builds what is meant.

    Args:
        kernel: the user's.
        of: the variant; None for the modules of the kernel itself.
        beside_none: make the variant without the series too, and give it first.
        has: features of the kernel in the oracle's words; None for what its source shows.
        wanted: names of module parameters that it must have.
        recipe: how the kernel is built, unless it is given as it is.
        progress: takes a line about once a second.

    Raises:
        UsageError: there is no such kernel, parameter or variant, or they do not fit each other.
        KernelBuildError, MissingToolError, OptionLostError, DiskFullError: it cannot be built.
    """
    names = tuple(dict.fromkeys(wanted))
    if of is None:
        if names:
            parameters.check(names, kernel.parameters(progress))
        one = kernel.get(progress, recipe)
        ours = VariantId(AS_IT_IS, one.source, config_hash=one.config_hash, oracle=_view(has, one))
        return (Chosen(one, Variant(ours, one.modules)),)
    return _of_series(chosen_source(kernel.source), of, names, has, recipe, progress, beside_none)


def _of_series(
    source: Source,
    of: Of,
    wanted: tuple[str, ...],
    has: tuple[str, ...] | None,
    recipe: Recipe,
    progress: Progress,
    beside_none: bool,
) -> tuple[Chosen, ...]:
    from kvmharness.validation.look import look
    from kvmharness.validation.prepare import make

    seen = look(of.series, source, progress=progress)
    parameters.check(wanted, seen.parameters)
    name = of.name or list(seen.plan.prefixes)[-1]
    seen = replace(seen, chosen=seen.plan.select((NONE, name) if beside_none else (name,)))
    built = make(seen, recipe=recipe, progress=progress)
    if built.broken:
        raise KernelBuildError(f"variant {built.broken[0].variant} does not build", built.broken[0].lines)
    made = []
    for variant in built.variants:
        told = variant.id if has is None else replace(variant.id, oracle=oracles.told(oracles.DEFAULT, has))
        made.append(Chosen(built.kernels[variant.id.name], replace(variant, id=told)))
    return tuple(made)


def _view(has: tuple[str, ...] | None, kernel: build.Kernel) -> OracleView | None:
    """How the oracle sees the kernel: as the user says, else as its source shows, else as kernels usually are."""
    if has is None and kernel.tree is not None:
        return oracles.found(oracles.DEFAULT, Overlay(kernel.tree).read)
    return oracles.told(oracles.DEFAULT, has)
