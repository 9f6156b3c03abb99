"""A series, from its patches to a verdict: variants, builds, one interleaved run, the record, the claims.

Nothing here knows which emulator runs or what a series claims; it puts the pieces together and turns what goes wrong
*because of the series* (a panic, modules that do not load or unload) into a failed claim, not into an error.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kvmharness.cells.cell import Cell
from kvmharness.cells.passes import Plan
from kvmharness.claims import Claim, check_variants, evaluate, parse_claims
from kvmharness.errors import KvmHarnessError, UsageError
from kvmharness.lab.inside.modules import ModuleError
from kvmharness.lab.job import KernelPanicError, Machine, StepFailedError
from kvmharness.lab.kernels import build
from kvmharness.lab.kernels.source import Source
from kvmharness.oracle import oracles
from kvmharness.patches import variants as patches
from kvmharness.patches.series import Series
from kvmharness.results.record import OracleView, Record, VariantId
from kvmharness.results.verdict import ClaimResult, Outcome, Verdict
from kvmharness.system import cache
from kvmharness.system.programs import Progress, silent
from kvmharness.validation.campaign import EMULATED_PLAN, Variant, run_in
from kvmharness.validation.collector import OnResult

MachineFor = Callable[[build.Kernel], Machine]
"""Makes the host for a kernel: ``lambda kernel: emulated_host("skylake", kernel)``."""


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


@dataclass(frozen=True, slots=True)
class Validation:
    """What a validation found.

    Attributes:
        verdict: the claims, answered.
        record: the run; None when a variant brought the host down and took the run with it.
        built: what was run.
    """

    verdict: Verdict
    record: Record | None
    built: Built


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


def validate(
    built: Built,
    machine_for: MachineFor,
    cells: Sequence[Cell],
    *,
    turns: int = 1,
    plan: Plan = EMULATED_PLAN,
    command: Sequence[str] = (),
    on_result: OnResult = lambda result, done, total: None,
) -> Validation:
    """Runs every variant, interleaved, and answers the claims.

    Args:
        built: what :func:`prepare` returned.
        machine_for: makes the host to run on.
        cells: for example :func:`kvmharness.cells.cell.validation_matrix`.
        turns: how often each variant gets its turn, every other time in reversed order: ABBA.
        plan: how long each pass is.
        command: what reproduces it.
        on_result: takes each result as it arrives.

    Raises:
        LostMachineError: the emulated host was lost for reasons of its own.
    """
    names = tuple(variant.id.name for variant in built.variants)
    loaded = _Loaded()
    record: Record | None = None
    try:
        record = _run(built, machine_for, loaded, cells, turns, plan, command, on_result)
        survived = ClaimResult(
            "modules-load-and-unload",
            "Every variant's modules load, unload, and leave the kernel running.",
            Outcome.PASS,
            (f"{loaded.times} times loaded and unloaded",),
        )
    except (KernelPanicError, StepFailedError) as error:
        if not loaded.variant or not _is_the_variants_fault(error):
            raise
        survived = ClaimResult(
            "modules-load-and-unload",
            "Every variant's modules load, unload, and leave the kernel running.",
            Outcome.FAIL,
            (f"variant {loaded.variant}: {error}", *getattr(error, "console", ())[-8:]),
        )
    answers = evaluate(built.claims, record) if record else []
    verdict = Verdict.of(built.plan.series.name, (*answers, survived), names, tuple(command))
    return Validation(verdict, record, built)


def order(names: Sequence[str], turns: int) -> tuple[str, ...]:
    """Which variant runs when: A B, B A, A B ... so that a drift of the host meets all of them alike."""
    return tuple(name for turn in range(turns) for name in (names if turn % 2 == 0 else reversed(names)))


def _run(
    built: Built,
    machine_for: MachineFor,
    loaded: "_Loaded",
    cells: Sequence[Cell],
    turns: int,
    plan: Plan,
    command: Sequence[str],
    on_result: OnResult,
) -> Record:
    names = [variant.id.name for variant in built.variants]

    def run(variants: Sequence[Variant], sequence: Sequence[str], kernel: build.Kernel) -> Record:
        machine = machine_for(kernel)
        return run_in(machine, variants, sequence, cells, plan, command=command, on_result=on_result, on_load=loaded)

    if built.one_boot:
        return run(built.variants, order(names, turns), built.kernels[names[0]])
    # Whole kernels: a boot for each, and one turn, since there is nothing to interleave with inside a boot.
    records = []
    for variant in built.variants:
        loaded.variant = name = variant.id.name  # a kernel may go down before it loads anything
        records.append(run((variant,), (name,), built.kernels[name]))
    return replace(
        records[0],
        variants=tuple(variant.id for variant in built.variants),
        results=tuple(result for record in records for result in record.results),
        dmesg=tuple(line for record in records for line in record.dmesg),
    )


@dataclass(slots=True)
class _Loaded:
    """Which variant was loaded last, for when it takes the kernel down, and how many times any was."""

    variant: str = ""
    times: int = 0

    def __call__(self, name: str) -> None:
        self.variant = name
        self.times += 1


def _is_the_variants_fault(error: KvmHarnessError) -> bool:
    """A panic, or modules that the kernel refused; what else failed is a fault of ours or of the host."""
    return not isinstance(error, StepFailedError) or error.failed.type == ModuleError.__name__


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
