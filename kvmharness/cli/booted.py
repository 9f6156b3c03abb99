"""What `lab boot`, `lab exec` and `lab shell` have in common: an emulated host, its kernel, the modules it loads."""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kvmharness.cli import options as shared
from kvmharness.cli.gdb import announce, check_gdb, commands
from kvmharness.cli.output import Output
from kvmharness.cli.serieschoice import add_series_options, variant_of
from kvmharness.lab.image.initramfs import ImageParts
from kvmharness.lab.job import Job, Machine
from kvmharness.lab.kernels.choice import KernelChoice
from kvmharness.lab.kernels.config import MINIMAL
from kvmharness.lab.kernels.traceable import TRACEABLE
from kvmharness.lab.machines.emulator import Attached
from kvmharness.lab.steps import Load, Step
from kvmharness.system.scratch import temporary_folder
from kvmharness.validation.chosen import Chosen, chosen
from kvmharness.validation.host import Emulated
from kvmharness.validation.hostbase import Of

NO_LIMIT_S = 7 * 86400.0
"""For a job at a user's pace."""


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Options that say what is booted."""
    shared.add_host_option(parser)
    shared.add_parameter_option(parser)
    shared.add_kernel_options(parser)
    add_series_options(parser)
    parser.add_argument(
        "--gdb",
        action="store_true",
        help="the host waits for gdb, and what it needs is printed; its kernel has symbols; built once, in minutes",
    )


@dataclass(frozen=True, slots=True)
class Booted:
    """An emulated host to boot.

    Attributes:
        host: which one.
        kernel: what it boots.
        params: of KVM's modules.
        of: the variant whose modules it loads; None for the kernel's own.
        gdb: it waits for a debugger; the kernel is one with symbols.
    """

    host: Emulated
    kernel: KernelChoice
    params: Mapping[str, str]
    of: Of | None = None
    gdb: bool = False

    @classmethod
    def of_options(cls, options: argparse.Namespace) -> "Booted":
        """What is asked for. Raises: UsageError, no such host, or options that contradict each other."""
        kernel, host = shared.kernel_choice(options), shared.emulated_host(options)
        if options.gdb:
            check_gdb(host)
        return cls(host, kernel, dict(options.param), variant_of(options, kernel), options.gdb)

    @contextmanager
    def ready(
        self, output: Output, terminal: str = "", parts: ImageParts | None = None
    ) -> Iterator[tuple[Chosen, Machine]]:
        """What is loaded, built if it has to be, and the machine that is about to boot it.

        Args:
            output: takes how it is getting on, and how to attach a debugger.
            terminal: see :class:`Attached`.
            parts: what the image holds besides.
        """
        recipe = TRACEABLE if self.gdb else MINIMAL
        with temporary_folder("gdb") as folder:
            attached = Attached(terminal, str(folder / "socket") if self.gdb else "")
            with output.task("Emulated host") as task:
                (one,) = chosen(self.kernel, self.of, wanted=self.params, recipe=recipe, progress=task.tick)
                machine = self.host.machine(one.kernel)
                task.step(f"booting {one.kernel.release} in {machine.description}")
                if attached != Attached() or parts:
                    machine = self.host.by_hand(one.kernel, attached, parts)
                if self.gdb:
                    before = self.host.by_hand(one.kernel, Attached(), parts)
                    lines = commands(before, one, self.params, folder / "socket")
            if self.gdb:
                announce(lines, folder, output)
            yield one, machine

    def job(self, one: Chosen, *steps: Step, **more: Any) -> Job:
        """A job that loads KVM's modules first; at a debugger's pace if there is one."""
        if self.gdb:
            more["timeout_s"] = NO_LIMIT_S
        name = one.variant.id.name
        return Job((Load(name, dict(self.params)), *steps), modules={name: one.variant.modules}, **more)
