"""A series, from its patches to a verdict: variants, builds, one interleaved run, the record, the claims.

Nothing here knows which emulator runs or what a series claims; it puts the pieces together and turns what goes wrong
*because of the series* (a panic, modules that do not load or unload) into a failed claim, not into an error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kvmharness.cells.cell import Cell
from kvmharness.cells.passes import Plan
from kvmharness.errors import KvmHarnessError
from kvmharness.lab.inside.modules import ModuleError
from kvmharness.lab.job import KernelPanicError, Machine, StepFailedError
from kvmharness.lab.kernels import build
from kvmharness.results.record import Record
from kvmharness.results.verdict import ClaimResult, Outcome, Verdict
from kvmharness.validation.campaign import EMULATED_PLAN, Variant, run_in
from kvmharness.validation.collector import OnResult
from kvmharness.validation.judges import judge
from kvmharness.validation.prepare import Built

MachineFor = Callable[[build.Kernel], Machine]
"""Makes the host for a kernel: ``lambda kernel: emulated_host("skylake", kernel)``."""


@dataclass(frozen=True, slots=True)
class Validation:
    """What a validation found.

    Attributes:
        verdict: the claims, answered.
        record: the run; None when a variant brought the host down and took the run with it.
        built: what was run.
        others: the claims that were answered on the way: whether variants build, load and unload.
    """

    verdict: Verdict
    record: Record | None
    built: Built
    others: tuple[ClaimResult, ...] = ()


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
        cells: for example :func:`kvmharness.cells.matrix.validation_matrix`.
        turns: how often each variant gets its turn, every other time in reversed order: ABBA.
        plan: how long each pass is.
        command: what reproduces it.
        on_result: takes each result as it arrives.

    Raises:
        LostMachineError: the emulated host was lost for reasons of its own.
    """
    loaded = _Loaded()
    record: Record | None = None
    try:
        record = _run(built, machine_for, loaded, cells, turns, plan, command, on_result)
        survived = Outcome.PASS
        figures: tuple[str, ...] = (f"{loaded.times} times loaded and unloaded",)
    except (KernelPanicError, StepFailedError) as error:
        if not loaded.variant or not _is_the_variants_fault(error):
            raise
        survived = Outcome.FAIL
        figures = (f"variant {loaded.variant}: {error}", *getattr(error, "console", ())[-8:])
    text = "Every variant's modules load, unload, and leave the kernel running."
    down = (loaded.variant,) if survived is Outcome.FAIL else ()
    others = (ClaimResult("modules-load-and-unload", text, survived, figures, variants=down), builds(built))
    records = {"": record} if record else {}
    return Validation(judge(built.subject, records, others, command=command), record, built, others)


def builds(built: Built) -> ClaimResult:
    """The answer about prefixes that did not build."""
    broken = [each for each in built.broken if each.prefix]
    figures = [line for each in broken for line in (f"{each.variant}, with {each.title}:", *each.lines)]
    return ClaimResult(
        "every-prefix-builds",
        "The kernel builds after every patch of the series.",
        Outcome.FAIL if broken else Outcome.PASS,
        tuple(figures) or (f"{', '.join(variant.id.name for variant in built.variants)} built",),
        variants=tuple(each.variant for each in broken),
    )


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
