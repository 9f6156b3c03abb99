"""Traces one cell under one kernel: a job whose events are the lines that ftrace wrote."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvmharness.cells.cell import Cell
from kvmharness.cells.judge import Raw, blank, judge
from kvmharness.cells.passes import Plan
from kvmharness.cells.plan import plan
from kvmharness.cells.rotation import rotation
from kvmharness.cells.surroundings import Surroundings
from kvmharness.errors import HostRequirementError
from kvmharness.guest.shipped import run_loop
from kvmharness.hosts.needs import all_unmet
from kvmharness.lab.events import Data, Event
from kvmharness.lab.job import Job
from kvmharness.lab.steps import Call, Load, Step, Unload
from kvmharness.results.jsonread import Fields, an_object, integer, list_of, or_none, text
from kvmharness.results.record import CellError
from kvmharness.validation.campaign import Variant
from kvmharness.validation.probing import Run

_TRACE = "kvmharness.cells.trace:trace"
_MORE = 2  # round trips that are cut at one of their ends
_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Traced:
    """What came of tracing a cell.

    Attributes:
        variant: under which it ran.
        lines: as the kernel wrote them.
        passes: which pass they are of: 1 is the warm-up of a guest that failed there, 2 what follows it.
        failed: why the guest ended early, which the trace then ends with.
        lacking: what the trace lacks, and why; or empty.
        modules: the modules that were loaded; None for those of a machine that is not ours.
    """

    variant: str
    lines: tuple[str, ...]
    passes: int = 2
    failed: CellError | None = None
    lacking: str = ""
    modules: Path | None = None


def trace_cell(
    run: Run, cell: Cell, there: Surroundings, lengths: Plan, variant: Variant | None = None, *, passes: int = 2
) -> Traced:
    """Runs a cell with ftrace around a whole rotation of it.

    Args:
        run: does a job.
        cell: what to run.
        there: where.
        lengths: of the passes; the warm-up is taken from it.
        variant: modules to load for it, with the function graph of all that they do; None for what is loaded on a
            machine that is not ours alone, and tracepoints.
        passes: 1 for the warm-up alone.

    Raises:
        HostRequirementError: the cell cannot run there, or not be traced.
        LostMachineError, StepFailedError: as :meth:`kvmharness.lab.job.Machine.run`.
    """
    if lacking := all_unmet(cell.needs, there.facts):
        raise HostRequirementError(f"{cell.id} cannot run here: {'; '.join(map(str, lacking))}")
    planned = plan(cell, there.offered, lengths)
    name = variant.id.name if variant else "host"
    arguments = {
        "cell": planned.to_json(),
        "passes": [planned.passes.warmup, rotation(cell).period + _MORE][:passes],
        "modules": ["kvm", there.facts.vendor_module] if variant else [],
        "offered": there.offered.to_json(),
        "parameters": dict(there.facts.module_parameters),
        "run_loop": run_loop().hex(),
    }
    steps: tuple[Step, ...] = (Call(_TRACE, arguments, required=True),)
    if variant:
        steps = (Load(name, dict(cell.params)), *steps, Unload())
    came: list[dict[str, object]] = []

    def take(event: Event) -> None:
        if isinstance(event, Data):
            came.append(event.data)

    run(Job(steps, modules={name: variant.modules} if variant else {}, timeout_s=_TIMEOUT_S), take)
    lines, begun, failed, lacks = _read(came)
    told = judge(planned, Raw.read(failed), blank(cell, name, 0), {}, None).error if failed else None
    return Traced(name, lines, begun, told, lacks, variant.modules if variant else None)


def _read(came: Sequence[dict[str, object]]) -> tuple[tuple[str, ...], int, dict[str, object] | None, str]:
    """The lines, the passes, how the guest failed, what is lacking. Raises: ShapeError, HostRequirementError."""
    lines: list[str] = []
    for data in came[:-1]:
        with Fields(data, "trace") as fields:
            lines += fields.take("lines", list_of(text))
    with Fields(came[-1] if came else {}, "trace") as fields:
        if "differs" in fields:
            raise HostRequirementError(
                f"this KVM is not the one that was asked a moment ago: {fields.take('differs', text)}"
            )
        return (
            tuple(lines),
            fields.take("passes", integer),
            fields.take("failed", or_none(an_object)),
            fields.take("lacking", text),
        )
