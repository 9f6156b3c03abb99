"""What happened to the kernel during a run, beside the figures: what it said, and where it went down."""

from collections.abc import Mapping

from kvmharness.lean.dataclasses import dataclass
from kvmharness.results.jsonread import Fields, integer, integer_map, text, texts

LOAD, UNLOAD = "load", "unload"


@dataclass(frozen=True, slots=True)
class StepLog:
    """Lines that the kernel's log gained while modules were loaded or unloaded, or before the first cell of a turn."""

    variant: str
    turn: int
    step: str  # LOAD, UNLOAD, or that it was before the first cell
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Loss:
    """A variant that took its kernel down, or that did not load or unload."""

    variant: str
    turn: int
    step: str  # LOAD, UNLOAD, or the id of the cell that was running
    type: str  # class name of the error
    message: str


@dataclass(frozen=True, slots=True)
class Leftover:
    """How much more memory the kernel held after a variant was unloaded than before it was loaded."""

    variant: str
    turn: int
    vms: int  # that ran meanwhile
    memory: Mapping[str, int]  # bytes, more or less, by where: "pages", or the name of a slab cache

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(self.memory.values())


@dataclass(frozen=True, slots=True)
class KernelReport:
    """A WARN, a BUG, an oops, a panic, ...: see :class:`kvmharness.results.kernelwords.Words` for its parts."""

    variant: str
    turn: int
    step: str  # LOAD, UNLOAD, or a cell's id
    kind: str
    headline: str
    place: str
    rip: str
    trace: tuple[str, ...]
    text: tuple[str, ...]

    @property
    def where(self) -> str:
        """During what."""
        return f"{self.variant}, turn {self.turn}, {self.step}"


def step_log(value: object, where: str) -> StepLog:
    """Reads one back. Raises: ShapeError."""
    with Fields(value, where) as taken:
        return StepLog(
            taken.take("variant", text),
            taken.take("turn", integer),
            taken.take("step", text),
            taken.take("lines", texts),
        )


def loss(value: object, where: str) -> Loss:
    """Reads one back. Raises: ShapeError."""
    with Fields(value, where) as taken:
        return Loss(
            variant=taken.take("variant", text),
            turn=taken.take("turn", integer),
            step=taken.take("step", text),
            type=taken.take("type", text),
            message=taken.take("message", text),
        )


def leftover(value: object, where: str) -> Leftover:
    """Reads one back. Raises: ShapeError."""
    with Fields(value, where) as taken:
        return Leftover(
            taken.take("variant", text),
            taken.take("turn", integer),
            taken.take("vms", integer),
            taken.take("memory", integer_map),
        )


def kernel_report(value: object, where: str) -> KernelReport:
    """Reads one back. Raises: ShapeError."""
    with Fields(value, where) as taken:
        return KernelReport(
            variant=taken.take("variant", text),
            turn=taken.take("turn", integer),
            step=taken.take("step", text),
            kind=taken.take("kind", text),
            headline=taken.take("headline", text),
            place=taken.take("place", text),
            rip=taken.take("rip", text),
            trace=taken.take("trace", texts),
            text=taken.take("text", texts),
        )
