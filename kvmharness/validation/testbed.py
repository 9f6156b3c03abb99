"""Tests on a host with one kernel, as a record: litmus tests, named and random ones, and suites that others wrote."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kvmharness.cells.params import Params
from kvmharness.cells.surroundings import Surroundings, surroundings
from kvmharness.lab.job import Machine
from kvmharness.lab.kernels.build import Kernel
from kvmharness.litmus.program import Program
from kvmharness.results.record import Record, VariantId
from kvmharness.suites.test import SuiteTest
from kvmharness.validation.campaign import Variant, header_of
from kvmharness.validation.collector import Clock
from kvmharness.validation.hunt import Random, hunt
from kvmharness.validation.litmus import OnTest, Tested, joined, run_litmus, run_litmus_here
from kvmharness.validation.probing import surroundings_of
from kvmharness.validation.suites import run_suites, run_suites_here

OnRows = Callable[[str, int], None]
"""Takes what the random tests are at, and how many rows have run."""


@dataclass(frozen=True, slots=True)
class Testbed:
    """A host with one kernel, on which tests run.

    Attributes:
        variant: the kernel, for the record.
        there: the settings of module parameters, and what the host is under each.
        host: what the record says of it.
        emulated: the machine and the kernel that it boots; None for this machine, whose modules stay as they are.
    """

    variant: VariantId
    there: dict[Params, Surroundings]
    host: dict[str, object]
    emulated: tuple[Machine, Kernel] | None = None

    def run_litmus(
        self, settings: Sequence[Params], programs: Sequence[Program], on_test: OnTest, *, together: bool
    ) -> Tested:
        """Runs litmus tests under some of the settings, all in one VM or each by itself."""
        if self.emulated is None:
            return run_litmus_here(programs, on_test, together=together)
        machine, kernel = self.emulated
        variants = (Variant(self.variant, kernel.modules),)
        return run_litmus(machine, variants, settings, programs, on_test, together=together)

    def litmus(
        self,
        tests: Sequence[Program],
        random: Random | None,
        command: Sequence[str],
        on_test: OnTest,
        on_rows: OnRows,
    ) -> tuple[Record, tuple[Program, ...]]:
        """Runs named tests, then random ones; gives the record, and the shortest form of random ones that failed."""
        clock = Clock()
        found = self.run_litmus(list(self.there), tests, on_test, together=True) if tests else Tested((), ())
        shrunk: tuple[Program, ...] = ()
        if random is not None:
            hunted = hunt(random, self._some, self.there, on_rows)
            found, shrunk = joined((found, hunted.tested)), hunted.shrunk
        return self._record(found, clock, command), shrunk

    def _some(self, some: Sequence[Program], params: Params) -> Tested:
        return self.run_litmus([params], some, lambda test: None, together=False)

    def suite(self, tests: Sequence[SuiteTest], command: Sequence[str], on_test: OnTest) -> Record:
        """Runs tests of a suite under every setting."""
        clock = Clock()
        if self.emulated is None:
            found = run_suites_here(tests, on_test)
        else:
            machine, kernel = self.emulated
            variant = Variant(self.variant, kernel.modules)
            found = run_suites(machine, (variant,), list(self.there), lambda variant: tests, on_test)
        return self._record(found, clock, command)

    def _record(self, found: Tested, clock: Clock, command: Sequence[str]) -> Record:
        dmesg = tuple(line for log in found.logs for line in log.lines)
        header = header_of(command, (self.variant,), self.host)
        return replace(header, when=clock.when(), tests=found.tests, logs=found.logs, dmesg=dmesg)


def here() -> Testbed:
    """This machine, under the kernel that is running, its modules as they are loaded.

    Raises:
        DeviceError: there is no /dev/kvm.
    """
    there = surroundings()
    return Testbed(VariantId("host", f"running kernel {there.facts.kernel_release}"), {(): there}, there.for_record())


def emulated(machine: Machine, kernel: Kernel, settings: Sequence[Params]) -> Testbed:
    """An emulated host, whose modules are loaded anew for each setting.

    Raises:
        LostMachineError, StepFailedError: as :func:`kvmharness.validation.probing.surroundings_of`.
    """
    there = surroundings_of(machine, kernel.modules, settings)
    first = there[settings[0]]
    host = first.for_record() | ({"emulator": machine.description} if first.facts.emulated else {})
    return Testbed(VariantId("host", kernel.source, config_hash=kernel.config_hash), there, host, (machine, kernel))
