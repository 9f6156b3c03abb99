"""A series, from its patches to a verdict: variants, builds, one interleaved run, the record, the claims.

Nothing here knows which emulator runs or what a series claims; it puts the pieces together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kvmharness.cells.cell import Cell
from kvmharness.cells.passes import Plan
from kvmharness.lab.inside.modules import ModuleError
from kvmharness.lab.job import KernelPanicError, Machine, StepFailedError
from kvmharness.lab.kernels import build
from kvmharness.results.incidents import LOAD, Loss
from kvmharness.results.record import Record
from kvmharness.results.verdict import KERNEL_WELL, ClaimResult, Outcome, Verdict
from kvmharness.validation.campaign import EMULATED_PLAN, Keeping, run_in
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
        record: the run.
        built: what was run.
    """

    verdict: Verdict
    record: Record
    built: Built


def validate(
    built: Built,
    machine_for: MachineFor,
    cells: Sequence[Cell],
    *,
    command: Sequence[str] = (),
    **how: Any,
) -> Validation:
    """Runs every variant, interleaved, and answers the claims.

    Args:
        built: what :func:`prepare` returned.
        machine_for, cells, command: see :func:`measure`.
        how: its other arguments.

    Raises:
        As :func:`measure`.
    """
    record = measure(built, machine_for, cells, command=command, **how)
    return Validation(judge(built.subject, {"": record}, (builds(built),), command=command), record, built)


def measure(
    built: Built,
    machine_for: MachineFor,
    cells: Sequence[Cell],
    *,
    turns: int = 1,
    plan: Plan = EMULATED_PLAN,
    command: Sequence[str] = (),
    on_result: OnResult = lambda result, done, total: None,
    keeping: Keeping | None = None,
) -> Record:
    """Runs every variant, interleaved.

    Args:
        built: what :func:`prepare` returned.
        machine_for: makes the host to run on.
        cells: for example :func:`kvmharness.cells.matrix.validation_matrix`.
        turns: how often each variant gets its turn, every other time in reversed order: ABBA.
        plan: how long each pass is.
        command: what reproduces it.
        on_result: takes each result as it arrives.
        keeping: what is kept of the run, and what was kept of an earlier one.

    Raises:
        LostMachineError: the emulated host was lost for reasons of its own.
        UsageError: the earlier record is of another run.
    """

    def run(sequence: Sequence[str], kernel: build.Kernel) -> Record:
        return run_in(
            machine_for(kernel),
            built.variants,
            sequence,
            cells,
            plan,
            command=command,
            on_result=on_result,
            keeping=keeping,
        )

    names = [variant.id.name for variant in built.variants]
    if built.one_boot:
        return run(order(names, turns), built.kernels[names[0]])
    return _each_in_its_kernel(built, names, run)


def _each_in_its_kernel(
    built: Built, names: Sequence[str], run: Callable[[Sequence[str], build.Kernel], Record]
) -> Record:
    """A boot for each variant, and one turn, since there is nothing to interleave with inside a boot."""
    records: list[Record] = []
    for name in names:
        try:
            records.append(run((name,), built.kernels[name]))
        except (KernelPanicError, StepFailedError) as error:  # before anything was asked of it
            if not records or (isinstance(error, StepFailedError) and error.failed.type != ModuleError.__name__):
                raise
            loss = Loss(name, 0, LOAD, type(error).__name__, str(error))
            nothing = replace(records[0], results=(), dmesg=(), logs=(), reports=(), leftovers=())
            records.append(replace(nothing, losses=(loss,)))
    return replace(
        records[0],
        results=tuple(result for record in records for result in record.results),
        dmesg=tuple(line for record in records for line in record.dmesg),
        logs=tuple(log for record in records for log in record.logs),
        reports=tuple(report for record in records for report in record.reports),
        losses=tuple(loss for record in records for loss in record.losses),
        leftovers=tuple(leftover for record in records for leftover in record.leftovers),
    )


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
        group=KERNEL_WELL,
    )


def order(names: Sequence[str], turns: int) -> tuple[str, ...]:
    """Which variant runs when: A B, B A, A B ... so that a drift of the host meets all of them alike."""
    return tuple(name for turn in range(turns) for name in (names if turn % 2 == 0 else reversed(names)))
