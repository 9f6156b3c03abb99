"""Hosts: where cells and variants run, this machine or an emulated one of the catalogue, each as one value.

What was typed is resolved here, once. Nobody else asks which of the two a host is: they ask the host.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kvmharness.errors import HostRequirementError, UsageError
from kvmharness.hosts import catalogue
from kvmharness.hosts.catalogue import EmulatedHost
from kvmharness.measure.watch import Watch
from kvmharness.validation.hostbase import Elsewhere, Host, Of, RunRequest, Task
from kvmharness.validation.trust import RELOADING
from kvmharness.vendors.names import NAMES
from kvmharness.vendors.names import named as vendor_named

# Resolving a name takes none of these: `run --list` and every --help would wait for them.
if TYPE_CHECKING:
    from kvmharness.cells.cell import Cell
    from kvmharness.cells.params import Params
    from kvmharness.cells.passes import Plan
    from kvmharness.lab.image.initramfs import ImageParts
    from kvmharness.lab.job import Machine
    from kvmharness.lab.kernels.build import Kernel
    from kvmharness.lab.kernels.choice import KernelChoice
    from kvmharness.lab.kernels.source import Source
    from kvmharness.lab.machines.emulator import Attached
    from kvmharness.lab.machines.own import OwnEmulator
    from kvmharness.results.record import Record
    from kvmharness.validation.collector import OnResult
    from kvmharness.validation.testbed import Testbed
    from kvmharness.validation.tracing import Traced

HERE = "local"
"""What this machine is called."""


@dataclass(frozen=True, slots=True)
class ThisMachine(Host):
    """The machine and the kernel that the tool runs on.

    Attributes:
        watch: where on it cells run, and what is looked at meanwhile.
    """

    watch: Watch = field(default_factory=Watch, compare=False)

    turns = 4

    @property
    def spec(self) -> str:
        """See :class:`Host`."""
        return HERE

    @property
    def vendor_module(self) -> str:
        """That of the first vendor where the processor has no virtualization."""
        from kvmharness.hosts.facts import facts

        return (facts().vendor or NAMES[0]).module

    @property
    def plan(self) -> "Plan":
        """See :class:`Host`."""
        from kvmharness.cells.passes import Plan

        return Plan()

    def recover(self, say: Callable[[str], None]) -> None:
        """Puts back the KVM modules that were taken out."""
        from kvmharness.lab.machines.thishost import recover

        if recover():
            say("an earlier run was killed before it could put KVM's modules back: done now")

    def check(self, kernel: "KernelChoice", params: Mapping[str, str], of: Of | None = None) -> None:
        """Nothing is to be chosen."""
        if of:
            raise UsageError(
                "--series chooses what an emulated host runs; this machine runs what it runs",
                f"Add --host {catalogue.first().spec}, or load the variant's modules first and leave --series away.",
            )
        if params or kernel.kernel or kernel.source:
            raise UsageError(
                "--param, --kernel and --source choose what an emulated host runs; this machine runs what it runs",
                f"Add --host {catalogue.first().spec}, or load the modules as wanted first.",
            )

    def fitting(self, cells: "tuple[Cell, ...]", *, reloading: bool = False) -> "tuple[Cell, ...]":
        """See :class:`Host`."""
        from kvmharness.cells.cell import on_vendor
        from kvmharness.cells.here import here
        from kvmharness.hosts.facts import facts
        from kvmharness.lab.kernels import parameters

        if reloading:
            return tuple(on_vendor(cell, self.vendor_module) for cell in cells)
        host = facts()
        if host.vendor_module:  # else nothing is loaded, and the reason that cells cannot run is another one
            named = (on_vendor(cell, host.vendor_module) for cell in cells)
            parameters.check((name for cell in named for name, _ in cell.params), frozenset(host.module_parameters))
        return here(cells, host)

    def lacks(self, cell: "Cell") -> str:
        """Nothing that is known: what it lacks may be loaded or switched on by the time that the cell runs."""
        return ""

    def run(self, request: RunRequest, on_result: "OnResult", task: Task) -> "Record":
        """Runs them in this process."""
        from kvmharness.oracle import oracles
        from kvmharness.validation.campaign import run_here

        try:
            return run_here(
                request.cells,
                request.plan,
                turns=request.turns,
                oracle=oracles.told(oracles.DEFAULT, request.has),
                command=request.command,
                on_result=on_result,
                keeping=request.keeping,
                watch=self.watch,
                detect=request.detect,
                say=task.step,
            )
        except HostRequirementError as error:
            way_out = f"or use an emulated host: kvmharness run --host {catalogue.first().spec}"
            raise HostRequirementError(str(error), f"{error.hint}; {way_out}" if error.hint else way_out) from error

    def trace(self, request: RunRequest, task: Task) -> "tuple[Traced, ...]":
        """KVM's tracepoints in this process."""
        from kvmharness.cells.surroundings import surroundings
        from kvmharness.lab.machines.thiskernel import ThisKernel
        from kvmharness.validation.tracing import trace_cell

        (cell,) = request.cells
        return (trace_cell(ThisKernel().run, cell, surroundings(), request.plan),)

    def testbed(self, kernel: "KernelChoice", settings: "tuple[Params, ...] | None", task: Task) -> "Testbed":
        """The modules as they are loaded."""
        from kvmharness.validation.testbed import here as testbed_here

        if any(settings or ()):
            raise UsageError("on this machine KVM's modules stay as they are loaded", "Leave --param away.")
        return testbed_here()

    def base(self, source: Path | None, *, may_reload: bool) -> "Kernel":
        """The running kernel, in the tree that it was built in."""
        from kvmharness.lab.kernels.running import running_kernel

        if not may_reload:
            raise UsageError(
                "on this machine validate replaces KVM's modules by each variant in turn",
                f"Allow it with --reload-modules: they are put back, and {RELOADING}. Or leave --host away for an "
                "emulated host.",
            )
        if source is None:
            raise UsageError(f"--host {HERE} needs --source", "Name the tree that the running kernel was built in.")
        return running_kernel(source)

    def machine_for(self) -> "Callable[[Kernel], Machine]":
        """Itself, whichever kernel is asked for: :meth:`base` has seen to it that it is the running one."""
        from kvmharness.lab.machines.thishost import ThisHost

        machine = ThisHost(watch=self.watch)
        return lambda kernel: machine


@dataclass(frozen=True, slots=True)
class Emulated(Host):
    """An emulated host.

    Attributes:
        entry: of the catalogue.
        snapshot: whether its machines may be restored for a job in the place of a boot.
        jobs: how many of its machines may be at work at the same time; as many as there are cores when None.
        own: the user's own emulator for it.
        elsewhere: the machines that its jobs are done on; None for this one.
    """

    entry: EmulatedHost
    snapshot: bool = True
    jobs: int | None = None
    own: "OwnEmulator | None" = None
    elsewhere: Elsewhere | None = None

    turns = 1  # every turn is the same

    @property
    def spec(self) -> str:
        """See :class:`Host`."""
        return self.entry.spec

    @property
    def vendor_module(self) -> str:
        """See :class:`Host`."""
        return vendor_named(self.entry.vendor).module

    @property
    def plan(self) -> "Plan":
        """See :class:`Host`."""
        from kvmharness.validation.campaign import EMULATED_PLAN

        return EMULATED_PLAN

    def recover(self, say: Callable[[str], None]) -> None:
        """A machine that is gone leaves nothing behind."""

    def check(self, kernel: "KernelChoice", params: Mapping[str, str], of: Of | None = None) -> None:
        """Everything can be chosen."""

    def fitting(self, cells: "tuple[Cell, ...]", *, reloading: bool = False) -> "tuple[Cell, ...]":
        """See :class:`Host`."""
        from kvmharness.cells.cell import on_vendor

        return tuple(on_vendor(cell, self.vendor_module) for cell in cells)

    def lacks(self, cell: "Cell") -> str:
        """See :class:`Host`."""
        from kvmharness.hosts.needs import NEEDS

        _, missing = self.entry.offer(cell.needs)
        return ", ".join(f"{need} ({NEEDS[need].summary})" for need in missing)

    def run(self, request: RunRequest, on_result: "OnResult", task: Task) -> "Record":
        """Runs them all in one boot."""
        from kvmharness.validation.campaign import run_in
        from kvmharness.validation.chosen import chosen

        wanted = (name for cell in request.cells for name, _ in cell.params)
        (one,) = chosen(request.kernel, request.of, has=request.has, wanted=wanted, progress=task.tick)
        machine = self.machine(one.kernel)
        task.step(f"booting {one.kernel.release} in {machine.description}", 0, len(request.cells))
        return run_in(
            machine,
            (one.variant,),
            (one.variant.id.name,) * request.turns,
            request.cells,
            request.plan,
            command=request.command,
            on_result=on_result,
            keeping=request.keeping,
        )

    def trace(self, request: RunRequest, task: Task) -> "tuple[Traced, ...]":
        """All functions of KVM's modules and its tracepoints, under a kernel that is built for that."""
        from kvmharness.lab.kernels.traceable import TRACEABLE
        from kvmharness.validation.chosen import chosen
        from kvmharness.validation.probing import surroundings_of
        from kvmharness.validation.tracing import trace_cell

        (cell,) = request.cells
        wanted = [name for name, _ in cell.params]
        ones = chosen(request.kernel, request.of, beside_none=True, wanted=wanted, recipe=TRACEABLE, progress=task.tick)
        traced: list[Traced] = []
        for one in reversed(ones):  # where the guest fails decides which round trips are wanted of the other
            machine = self.machine(one.kernel)
            task.step(f"tracing {one.variant.id.name} of {one.kernel.release} in {machine.description}")
            there = surroundings_of(machine, one.variant.modules, [cell.params])[cell.params]
            passes = traced[0].passes if traced else 2
            traced.insert(0, trace_cell(machine.run, cell, there, request.plan, one.variant, passes=passes))
        return tuple(traced)

    def testbed(self, kernel: "KernelChoice", settings: "tuple[Params, ...] | None", task: Task) -> "Testbed":
        """A job for each run."""
        from kvmharness.lab.kernels import parameters
        from kvmharness.validation.litmus import settings as usual
        from kvmharness.validation.testbed import emulated as testbed_in

        known = kernel.parameters(task.tick)
        if settings:
            parameters.check([name for params in settings for name, _ in params], known)
        built = kernel.get(task.tick)
        return testbed_in(self.machine(built), built, settings or usual(self.vendor_module, known))

    def base(self, source: Path | None, *, may_reload: bool) -> "Source":
        """The source that is named, or Debian's."""
        from kvmharness.lab.kernels.source import chosen

        return chosen(source)

    def machine_for(self) -> "Callable[[Kernel], Machine]":
        """A new one for each kernel."""
        from kvmharness.system.programs import MissingToolError

        if self.elsewhere is None and (lacking := self.entry.emulator.lacks(brought=self.own is not None)):
            raise MissingToolError(*lacking)
        return self.machine

    def machine(self, kernel: "Kernel") -> "Machine":
        """The machine that boots *kernel*.

        Raises:
            MissingToolError: the emulator is not installed.
        """
        from kvmharness.validation.snapshots import emulated_host

        if self.elsewhere is not None:
            return self.elsewhere.machine(self.entry, kernel, snapshot=self.snapshot)
        at_once = self.jobs or len(os.sched_getaffinity(0))
        return emulated_host(self.entry.name, kernel, snapshot=self.snapshot, at_once=at_once, own=self.own)

    def by_hand(self, kernel: "Kernel", attached: "Attached", parts: "ImageParts | None" = None) -> "Machine":
        """A machine that a user attaches something to; it is booted.

        Args:
            kernel: what it boots.
            attached: what.
            parts: what its image holds besides a job.

        Raises:
            MissingToolError: the emulator is not installed.
        """
        from dataclasses import replace

        from kvmharness.lab.machines.emulator import EmulatedMachine, emulated_host

        machine = emulated_host(self.entry.name, kernel, parts=parts, own=self.own)
        assert isinstance(machine, EmulatedMachine)
        return cast("Machine", replace(machine, attached=attached))


def resolve(text: str, **how: Any) -> Host:
    """The host that the user means; as :func:`resolve_all`."""
    return resolve_all((text,), **how)[0]


def resolve_all(
    texts: Sequence[str], *, emulator: str = "", watch: Watch | None = None, **how: Any
) -> tuple[Host, ...]:
    """The hosts that the user means, each once.

    Args:
        texts: their names.
        emulator: the path of the user's own emulator for those of its kind; empty for none.
        watch: see :class:`ThisMachine`; None for the usual one.
        how: see :class:`Emulated`: *snapshot*, *jobs* and *elsewhere*.

    Raises:
        UsageError: there is none of that name, the emulator is none, or fits none of them, or *watch* is for none.
    """
    from kvmharness.lab.machines.own import chosen_emulator

    entries = {text: _entry(text) for text in texts if text != HERE}
    own = chosen_emulator(emulator, entries.values())

    if watch is not None and HERE not in texts:
        raise UsageError("--cpu and --memory are about this machine's own", f"Add --host {HERE}, or leave them away.")

    def host(text: str) -> Host:
        if text == HERE:
            return ThisMachine() if watch is None else ThisMachine(watch)
        return _emulated(entries[text], own, how)

    return tuple(dict.fromkeys(map(host, texts)))


def emulated(text: str, *, emulator: str = "", **how: Any) -> Emulated:
    """The emulated host that the user means; as :func:`resolve_all`.

    Raises:
        UsageError: as there.
    """
    from kvmharness.lab.machines.own import chosen_emulator

    entry = _entry(text)
    return _emulated(entry, chosen_emulator(emulator, (entry,)), how)


def _entry(text: str) -> EmulatedHost:
    if entry := catalogue.find(text):
        return entry
    raise UsageError(f"no host is called {text!r}", f"Choose {catalogue.choices()}.")


def _emulated(entry: EmulatedHost, own: "OwnEmulator | None", how: Mapping[str, Any]) -> Emulated:
    return Emulated(entry, own=own and own.for_host(entry), **how)
