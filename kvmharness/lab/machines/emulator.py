"""What all emulated hosts have in common: an image, an emulator that boots it, a job's events that come out.

An emulator is a class of the form of :class:`EmulatedMachine` in a file of its own, and rows of
:mod:`kvmharness.hosts.catalogue`, which name it.
"""

import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import ClassVar, cast

from kvmharness.hosts import catalogue
from kvmharness.hosts.catalogue import EmulatedHost
from kvmharness.hosts.facts import LAB_MARKER
from kvmharness.lab.image.initramfs import COMMAND_LINE, ImageParts, write_initramfs
from kvmharness.lab.job import Job, Machine, OnEvent
from kvmharness.lab.kernels import build
from kvmharness.lab.machines.supervisor import supervise
from kvmharness.system import cache
from kvmharness.system.programs import Progress, find, silent

MEMORY_MB = 512
INITRAMFS = "initrd"
CONSOLE = "console"
"""The file that an emulator writes its serial port to, in its folder."""


@dataclass(frozen=True, slots=True)
class EmulatedMachine(ABC):
    """A machine that an emulator makes (see :class:`kvmharness.lab.job.Machine`).

    Attributes:
        kernel: a bzImage.
        host: which machine.
        parts: what its image holds besides the job.
        program: the emulator.
        environment: what its environment has besides ours.
    """

    kernel: Path
    host: EmulatedHost
    parts: ImageParts = field(default_factory=ImageParts)

    program: ClassVar[str]
    environment: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def command(self, folder: Path) -> list[str]:
        """Writes what the emulator reads besides :data:`INITRAMFS` and gives its command, to be started in *folder*."""

    @abstractmethod
    def version(self, said: str) -> str:
        """The emulator's version, from what it says when it is asked for it."""

    version_option: ClassVar[str] = "--version"

    @property
    def description(self) -> str:
        """Emulator, version, CPU model."""
        command = [find(self.program), self.version_option]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        return f"{self.host.emulator.title} {self.version(said.stdout + said.stderr)} {self.host.model}"

    @property
    def identity(self) -> str:
        """The emulator, the CPU model, the kernel and its command line."""
        return cache.digest(self.description, self.kernel.read_bytes(), self.kernel_command_line())

    def kernel_command_line(self, *more: str) -> str:
        """What the kernel is booted with."""
        words = (COMMAND_LINE, f"{LAB_MARKER}{self.host.name}", *more, self.host.command_line)
        return " ".join(filter(None, words))

    def run(self, job: Job, on_event: OnEvent) -> None:
        """See :meth:`kvmharness.lab.job.Machine.run`."""
        find(self.program)
        title = self.host.emulator.title
        with tempfile.TemporaryDirectory(prefix=f"kvmharness-{title.lower()}-") as name:
            folder = Path(name)
            write_initramfs(folder / INITRAMFS, self.parts, job)
            supervise(
                self.command(folder),
                job,
                on_event,
                name=f"the emulated host ({title}, {self.host.cpu})",
                console_path=folder / CONSOLE,
                folder=folder,
                env=self.environment,
            )


def emulated_host(
    name: str | None = None,
    kernel: build.Kernel | None = None,
    *,
    parts: ImageParts | None = None,
    progress: Progress = silent,
) -> Machine:
    """A machine to run jobs on.

    Args:
        name: of a host of the catalogue, or a vendor's; its first host when None.
        kernel: what it boots; the default kernel, built if need be, when None.
        parts: what its image holds besides a job.
        progress: takes a line about once a second while a kernel is built.

    Raises:
        UsageError: no such host.
        MissingToolError, KernelBuildError, OptionLostError, DiskFullError: as
            :func:`kvmharness.lab.kernels.build.kernel`.
    """
    host = catalogue.first() if name is None else catalogue.named(name)
    module, _, made_by = host.emulator.machine.partition(":")
    make = getattr(import_module(module), made_by)
    image = (kernel or build.kernel(progress=progress)).image
    return cast(Machine, make(image, host, parts or ImageParts()))
