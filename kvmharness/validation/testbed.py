"""Litmus tests on a host, named and random ones, as a record."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from kvmharness.cells.params import Params
from kvmharness.cells.surroundings import Surroundings, surroundings
from kvmharness.lab.job import Machine
from kvmharness.litmus.program import Program
from kvmharness.results.record import Record, VariantId
from kvmharness.validation.campaign import Variant, header_of
from kvmharness.validation.collector import Clock
from kvmharness.validation.hunt import Random, hunt
from kvmharness.validation.litmus import OnTest, Tested, run_litmus, run_litmus_here
from kvmharness.validation.probing import surroundings_of

OnRows = Callable[[str, int], None]
"""Takes what the random tests are at, and how many rows have run."""


class Run(Protocol):
    """Runs tests under some of the settings, all in one VM or each by itself."""

    def __call__(
        self, settings: Sequence[Params], programs: Sequence[Program], on_test: OnTest, *, together: bool
    ) -> Tested:
        """See the class."""
        ...


@dataclass(frozen=True, slots=True)
class Testbed:
    """A host with one kernel, on which litmus tests run.

    Attributes:
        variant: the kernel, for the record.
        there: the settings of module parameters, and what the host is under each.
        host: what the record says of it.
        run: runs tests under some of the settings.
    """

    variant: VariantId
    there: dict[Params, Surroundings]
    host: dict[str, object]
    run: "Run"

    def _some(self, some: Sequence[Program], params: Params) -> Tested:
        return self.run([params], some, lambda test: None, together=False)

    def record(
        self,
        tests: Sequence[Program],
        random: Random | None,
        command: Sequence[str],
        on_test: OnTest,
        on_rows: OnRows,
    ) -> tuple[Record, tuple[Program, ...]]:
        """Runs named tests, then random ones; gives the record, and the shortest form of random ones that failed."""
        clock = Clock()
        found = self.run(list(self.there), tests, on_test, together=True) if tests else Tested((), ())
        shrunk: tuple[Program, ...] = ()
        if random is not None:
            hunted = hunt(random, self._some, self.there, on_rows)
            more, shrunk = hunted.tested, hunted.shrunk
            found = Tested((*found.tests, *more.tests), (*found.logs, *more.logs))
        dmesg = tuple(line for log in found.logs for line in log.lines)
        header = header_of(command, (self.variant,), self.host)
        return replace(header, when=clock.when(), tests=found.tests, logs=found.logs, dmesg=dmesg), shrunk


def here() -> Testbed:
    """This machine, under the kernel that is running, its modules as they are loaded.

    Raises:
        DeviceError: there is no /dev/kvm.
    """
    there = surroundings()
    variant = VariantId("host", f"running kernel {there.facts.kernel_release}")
    return Testbed(
        variant,
        {(): there},
        there.for_record(),
        lambda settings, tests, on_test, *, together: run_litmus_here(tests, on_test, together=together),
    )


def emulated(machine: Machine, variant: Variant, settings: Sequence[Params]) -> Testbed:
    """An emulated host, whose modules are loaded anew for each setting.

    Raises:
        LostMachineError, StepFailedError: as :func:`kvmharness.validation.probing.surroundings_of`.
    """
    there = surroundings_of(machine, variant.modules, settings)
    first = there[settings[0]]
    host = first.for_record() | ({"emulator": machine.description} if first.facts.emulated else {})
    return Testbed(
        variant.id,
        there,
        host,
        partial(run_litmus, machine, (variant,)),
    )
