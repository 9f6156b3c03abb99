"""What all emulated hosts have in common: an image, an emulator that boots it, a job's events that come out.

An emulator is a class of the form of :class:`EmulatedMachine` in a file of its own, and rows of
:mod:`kvmharness.hosts.catalogue`, which name it.
"""

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cache as cache_results
from pathlib import Path
from typing import ClassVar, cast

from kvmharness.hosts import catalogue
from kvmharness.hosts.catalogue import EmulatedHost
from kvmharness.hosts.facts import LAB_MARKER
from kvmharness.lab.image.initramfs import (
    COMMAND_LINE,
    ImageParts,
    base_archive,
    job_archive,
    write_initramfs,
    write_waiting_initramfs,
)
from kvmharness.lab.image.interpreter import own_modules
from kvmharness.lab.job import Job, Machine, OnEvent
from kvmharness.lab.kernels import build
from kvmharness.lab.machines.own import Build, OwnEmulator
from kvmharness.lab.machines.snapshot.state import (
    STATE,
    NoSnapshotError,
    put_job,
    reserved_memory,
    take,
    waiting_agent,
)
from kvmharness.lab.machines.supervisor import supervise
from kvmharness.lab.steps import encode
from kvmharness.system import cache
from kvmharness.system.programs import DiskFullError, Progress, find, silent
from kvmharness.system.scratch import temporary_folder

_SAVED = 1  # counts the forms that saved hosts have had
MEMORY_MB = 512
INITRAMFS = "initrd"
CONSOLE = "console"
"""The file that an emulator writes its serial port to, in its folder."""


@dataclass(frozen=True, slots=True)
class Attached:
    """What a user has attached to a machine.

    Attributes:
        terminal: the path of a pseudoterminal that is its second serial port; empty for none. Such a machine's clock
            is the user's, and not repeatable.
        gdb: a socket at which it waits for a debugger before its first instruction; empty for none.
    """

    terminal: str = ""
    gdb: str = ""


@dataclass(frozen=True, slots=True)
class EmulatedMachine(ABC):
    """A machine that an emulator makes (see :class:`kvmharness.lab.job.Machine`).

    Attributes:
        kernel: a bzImage.
        host: which machine.
        parts: what its image holds besides the job.
        own: the user's own emulator, in the place of the installed one.
        attached: what the user has attached; a restored host has none of it.
        program: the emulator that is installed.
        words: what the emulator adds to each kernel's command line.
        memory_file: of a saved host's files the one that holds its memory; empty when hosts cannot be saved.
    """

    kernel: Path
    host: EmulatedHost
    parts: ImageParts = field(default_factory=ImageParts)
    own: OwnEmulator | None = None
    attached: Attached = Attached()

    program: ClassVar[str]
    words: ClassVar[tuple[str, ...]] = ()
    memory_file: ClassVar[str] = ""
    at_once: ClassVar[int] = 1
    watch: ClassVar[None] = None

    @abstractmethod
    def command(self, folder: Path) -> list[str]:
        """Writes what the emulator reads besides :data:`INITRAMFS` and gives its command, to be started in *folder*."""

    @abstractmethod
    def version(self, said: str) -> str:
        """The emulator's version, from what it says when it is asked for it."""

    version_option: ClassVar[str] = "--version"

    @classmethod
    def recognise(cls, program: Path) -> Build | None:
        """What a program says that is this emulator; None when it is another one, or cannot be brought along.

        Raises:
            UsageError: it is this emulator, but emulates no host of ours.
        """
        return None

    @property
    def executable(self) -> str:
        """What is started."""
        return str(self.own.path) if self.own else self.program

    @property
    def description(self) -> str:
        """Emulator, version (and of the user's own what tells it from others of that version), CPU model."""
        version = self.own.identity if self.own else self.version(_said(find(self.program), self.version_option))
        return f"{self.host.emulator.title} {version} {self.host.model}"

    @property
    def identity(self) -> str:
        """The emulator, the CPU model, the kernel and its command line."""
        return self.identity_as(self.description)

    def identity_as(self, description: str) -> str:
        """What :attr:`identity` is where the emulator is described so."""
        return cache.digest(description, self.kernel.read_bytes(), self.kernel_command_line())

    def kernel_command_line(self, *more: str) -> str:
        """What the kernel is booted with."""
        words = (COMMAND_LINE, f"{LAB_MARKER}{self.host.name}", *self.words, *more, self.host.command_line)
        return " ".join(filter(None, words))

    def environment(self) -> Mapping[str, str]:
        """What the emulator's environment has besides ours."""
        return {}

    def run(self, job: Job, on_event: OnEvent) -> None:
        """See :meth:`kvmharness.lab.job.Machine.run`."""
        find(self.executable)
        job = marked(job)
        with self._folder() as folder:
            write_initramfs(folder / INITRAMFS, self.parts, job)
            self._supervise(self.command(folder), self.environment(), job, on_event, folder)

    def cannot_be_saved(self) -> str:
        """Why hosts of this emulator cannot be saved here; empty when they can."""
        return f"{self.host.emulator.title} cannot save a host"

    def save(self, folder: Path) -> None:
        """Boots a host whose agent waits for a job, and saves it.

        Args:
            folder: an empty one; the saved host's files are in :data:`STATE` in there afterwards.

        Raises:
            LostMachineError, NoSnapshotError: that did not succeed.
        """
        raise NoSnapshotError(self.cannot_be_saved())

    def restore_command(self, folder: Path) -> list[str]:
        """The emulator's command that goes on with what is in :data:`STATE` in *folder*, where it is started."""
        raise NoSnapshotError(self.cannot_be_saved())

    def restore_environment(self) -> Mapping[str, str]:
        """And its environment."""
        return self.environment()

    @property
    def saved_identity(self) -> str:
        """Equal for two machines of which one can go on with what the other one has saved."""
        return cache.digest(
            *(self.identity, self._binary_facts(), base_archive(self.parts).name, self.parts.imports),
            *(MEMORY_MB, reserved_memory(), _SAVED),
        )

    @property
    def binary(self) -> str:
        """The program that is the emulator, where that is not what starts it."""
        return self.program

    def _binary_facts(self) -> list[object]:
        """What tells the program from another one of the same version."""
        if self.own:
            return [self.own.sha256]
        path = Path(find(self.binary)).resolve()
        stat = path.stat()
        return [str(path), stat.st_size, stat.st_mtime_ns]

    def run_restored(self, state: Path, job: Job, on_event: OnEvent) -> None:
        """As :meth:`run`, with a restored host in the place of a booted one.

        Args:
            state: the files of a saved host (see :mod:`kvmharness.lab.machines.snapshot.state`).

        Raises:
            DamagedError: they are not what was kept; nothing has been run.
            NoSnapshotError: the job does not fit, or there is no room for the files; nothing has been run.
        """
        job = marked(job)
        with self._folder() as folder:
            try:
                take(state, folder / STATE)
                put_job(folder / STATE / self.memory_file, job_archive(job))
            except DiskFullError as error:  # a boot needs less
                raise NoSnapshotError(str(error), error.hint) from error
            self._supervise(self.restore_command(folder), self.restore_environment(), job, on_event, folder)

    def _folder(self) -> AbstractContextManager[Path]:
        return temporary_folder(self.host.emulator.title.lower())

    def _supervise(
        self, command: list[str], environment: Mapping[str, str], job: Job, on_event: OnEvent, folder: Path
    ) -> None:
        supervise(
            command,
            job,
            on_event,
            name=f"the emulated host ({self.host.emulator.title}, {self.host.cpu})",
            console_path=folder / CONSOLE,
            folder=folder,
            env=environment,
        )

    def write_waiting(self, folder: Path, port: int, byte: int) -> None:
        """Writes an :data:`INITRAMFS` whose agent waits, and has the host saved by this OUT."""
        told = waiting_agent(port, byte, own_modules(), self.parts.imports)
        write_waiting_initramfs(folder / INITRAMFS, self.parts, told)


def marked(job: Job) -> Job:
    """The job with the nonce that is its own.

    The same job has the same one each time: what a host is given takes part in its random numbers and, by the length
    of what it does with it, in its times, and the same job is to give the same to the byte.
    """
    return replace(job, nonce=cache.digest(encode(job.steps), sorted(job.files), sorted(job.modules)))


@cache_results
def _said(program: str, option: str) -> str:
    """What a program says when it is asked for its version."""
    said = subprocess.run([program, option], capture_output=True, text=True, check=False)
    return said.stdout + said.stderr


def emulated_description(name: str) -> str:
    """What the machines of a host of the catalogue are called here, whatever they boot; see :class:`Machine`.

    Raises:
        MissingToolError: its emulator is not installed.
    """
    host = catalogue.named(name)
    return cast(Machine, host.emulator.machine_class()(Path(), host)).description


def emulated_host(
    name: str | None = None,
    kernel: build.Kernel | None = None,
    *,
    parts: ImageParts | None = None,
    progress: Progress = silent,
    own: OwnEmulator | None = None,
) -> Machine:
    """A machine to run jobs on.

    Args:
        name: of a host of the catalogue, or a vendor's; its first host when None.
        kernel: what it boots; the default kernel, built if need be, when None.
        parts: what its image holds besides a job.
        progress: takes a line about once a second while a kernel is built.
        own: the user's own emulator, of the kind that emulates the host.

    Raises:
        UsageError: no such host.
        MissingToolError, KernelBuildError, OptionLostError, DiskFullError: as
            :func:`kvmharness.lab.kernels.build.kernel`.
    """
    host = catalogue.first() if name is None else catalogue.named(name)
    booted = kernel or build.kernel(progress=progress)
    if booted.command_line:
        host = replace(host, command_line=f"{host.command_line} {booted.command_line}".strip())
    return cast(Machine, host.emulator.machine_class()(booted.image, host, parts or ImageParts(), own))
