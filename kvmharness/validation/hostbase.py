"""What every host answers, and what is asked of it: nobody who has one asks which kind it is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

# Resolving a name takes none of these: `run --list` and every --help would wait for them.
if TYPE_CHECKING:
    from kvmharness.cells.cell import Cell
    from kvmharness.cells.params import Params
    from kvmharness.cells.passes import Plan
    from kvmharness.hosts.catalogue import EmulatedHost
    from kvmharness.lab.job import Machine
    from kvmharness.lab.kernels.build import Kernel
    from kvmharness.lab.kernels.choice import KernelChoice
    from kvmharness.lab.kernels.source import Source
    from kvmharness.patches.series import Series
    from kvmharness.results.power import Detect
    from kvmharness.results.record import Record
    from kvmharness.validation.campaign import Keeping
    from kvmharness.validation.collector import OnResult
    from kvmharness.validation.testbed import Testbed
    from kvmharness.validation.tracing import Traced


class Task(Protocol):
    """Takes how a run is getting on."""

    def step(self, message: str, done: int | None = None, total: int | None = None) -> None:
        """Something new has begun."""
        ...

    def tick(self, message: str) -> None:
        """What has begun is still going on."""
        ...


class Elsewhere(Protocol):
    """Other machines, which have emulated hosts, too."""

    def machine(self, host: "EmulatedHost", kernel: "Kernel", *, snapshot: bool) -> "Machine":
        """What boots *kernel* in *host* on one of them; restored where *snapshot* says that it may be.

        Raises:
            HostRequirementError: none can.
        """
        ...


@dataclass(frozen=True, slots=True)
class Of:
    """A series, and one of its variants.

    Attributes:
        series: the series.
        name: of the variant; empty for the whole series.
    """

    series: "Series"
    name: str = ""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Cells to run under one kernel.

    Attributes:
        cells: what to run.
        plan: how long each pass is.
        turns: how often all of them are run.
        kernel: under which kernel, where that can be chosen.
        has: features of that kernel, in the oracle's words; None for what its source shows, or kernels usually have.
        command: how to make this run again, for the record.
        keeping: what is kept while it goes on; nothing without.
        of: the variant of a series whose modules are loaded; None for the kernel's own.
        detect: more turns are run until this would be seen, where turns differ.
    """

    cells: "tuple[Cell, ...]"
    plan: "Plan"
    turns: int
    kernel: "KernelChoice"
    has: tuple[str, ...] | None
    command: tuple[str, ...]
    keeping: "Keeping | None" = None
    of: Of | None = None
    detect: "Detect | None" = None


class Host(ABC):
    """Where jobs run.

    Attributes:
        turns: how often cells are run unless the user says otherwise; what never differs need not be run again.
    """

    __slots__ = ()
    turns: ClassVar[int]

    @property
    @abstractmethod
    def spec(self) -> str:
        """The shortest text that means it."""

    @property
    @abstractmethod
    def vendor_module(self) -> str:
        """The KVM module of its processor's vendor."""

    @property
    @abstractmethod
    def plan(self) -> "Plan":
        """How long the passes are unless the user says otherwise."""

    @abstractmethod
    def recover(self, say: Callable[[str], None]) -> None:
        """Puts right what an earlier run that was killed left behind.

        Args:
            say: takes a sentence, if there was something.

        Raises:
            LostMachineError: it cannot be put right; says what to do by hand.
            HostRequirementError: another run is at work.
        """

    @abstractmethod
    def check(self, kernel: "KernelChoice", params: Mapping[str, str], of: Of | None = None) -> None:
        """Refuses what this host can never run under.

        Args:
            kernel: that the user chose.
            params: of KVM's modules, that the user chose.
            of: the variant that the user chose.

        Raises:
            UsageError: it is not to be chosen here.
        """

    @abstractmethod
    def fitting(self, cells: "tuple[Cell, ...]", *, reloading: bool = False) -> "tuple[Cell, ...]":
        """The cells with module parameters by the names that they have here.

        Args:
            cells: as the user named them.
            reloading: KVM's modules are loaded anew, with each cell's parameters.

        Raises:
            UsageError: one wants a parameter of another vendor's module, or what can never be had here.
        """

    @abstractmethod
    def lacks(self, cell: "Cell") -> str:
        """The needs of a cell that this host can never meet, in words; empty where there is none."""

    @abstractmethod
    def run(self, request: RunRequest, on_result: "OnResult", task: Task) -> "Record":
        """Runs cells.

        Raises:
            HostRequirementError: the host lacks what it takes.
            LostMachineError: the machine died.
            UsageError: the kernel is not there.
        """

    @abstractmethod
    def trace(self, request: RunRequest, task: Task) -> "tuple[Traced, ...]":
        """Traces the one cell of a request; that of a series under *none* first, then under the variant.

        Raises:
            HostRequirementError: the cell cannot run there, or not be traced.
            LostMachineError, UsageError: as :meth:`run`.
        """

    @abstractmethod
    def testbed(self, kernel: "KernelChoice", settings: "tuple[Params, ...] | None", task: Task) -> "Testbed":
        """Where tests run on it.

        Args:
            kernel: under which kernel, where that can be chosen.
            settings: module parameters to load KVM with, each set in turn; None for those that matter on the host.
            task: takes how it is getting on.

        Raises:
            As :meth:`run`.
        """

    @abstractmethod
    def base(self, source: Path | None, *, may_reload: bool) -> "Source | Kernel":
        """What the variants of a series are made from.

        Args:
            source: that the user names.
            may_reload: the user allows this machine's KVM modules to be replaced.

        Raises:
            UsageError: it is not there, does not fit this host, or is not allowed.
        """

    @abstractmethod
    def machine_for(self) -> "Callable[[Kernel], Machine]":
        """What makes the machine for a kernel's variants; asked for before they are built.

        Raises:
            HostRequirementError: no variant can run here.
        """
