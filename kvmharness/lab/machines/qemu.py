"""QEMU without KVM (TCG): an emulated host with SVM and nested paging, repeatable when it counts instructions."""

import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from kvmharness.errors import UsageError
from kvmharness.lab.image.initramfs import COMMAND_LINE, MARKER, ImageParts, write_initramfs
from kvmharness.lab.job import Job, OnEvent
from kvmharness.lab.machines.supervisor import supervise
from kvmharness.system.programs import find

MEMORY_MB = 512
# With nested paging in L0, and without it (shadow paging).
CPUS = {"epyc": "EPYC-v3,+svm,+npt", "epyc-nonpt": "EPYC-v3,+svm,-npt"}
DEFAULT_CPU = "epyc"


@dataclass(frozen=True, slots=True)
class Qemu:
    """A machine that QEMU emulates (see :class:`kvmharness.lab.job.Machine`).

    Attributes:
        kernel: a bzImage.
        cpu: a short name of :data:`CPUS`.
        parts: what its image holds besides the job.
        command_line: added to the kernel's command line.
    """

    kernel: Path
    cpu: str = DEFAULT_CPU
    parts: ImageParts = field(default_factory=ImageParts)
    command_line: str = ""

    def __post_init__(self) -> None:
        if self.cpu not in CPUS:
            raise UsageError(
                f"the emulated SVM host has no CPU model {self.cpu!r}", f"choose one of: {', '.join(CPUS)}"
            )

    @property
    def description(self) -> str:
        """Emulator, version, CPU model."""
        said = subprocess.run([find("qemu-system-x86_64"), "--version"], capture_output=True, text=True, check=False)
        version = re.search(r"version (\S+)", said.stdout)
        return f"QEMU TCG {version[1] if version else ''} {CPUS[self.cpu]}"

    def run(self, job: Job, on_event: OnEvent) -> None:
        """See :meth:`kvmharness.lab.job.Machine.run`."""
        find("qemu-system-x86_64")
        with tempfile.TemporaryDirectory(prefix="kvmharness-qemu-") as name:
            folder = Path(name)
            write_initramfs(folder / "initrd", self.parts, job)
            supervise(
                [*self._command(), "-append", f"{COMMAND_LINE} {MARKER}svm:{self.cpu} {self.command_line}".strip()],
                job,
                on_event,
                name=f"the emulated host (QEMU, {self.cpu})",
                console_path=folder / "console",
                folder=folder,
            )

    def _command(self) -> list[str]:
        return [
            "qemu-system-x86_64",
            # One thread that counts instructions, and a clock that follows them: runs repeat.
            *("-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"),
            *("-rtc", "base=2020-01-01,clock=vm"),
            *("-cpu", CPUS[self.cpu], "-m", str(MEMORY_MB)),
            # Nothing that could take an interrupt or a file of ours.
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-monitor", "none"),
            *("-kernel", str(self.kernel.resolve()), "-initrd", "initrd"),
            *("-chardev", "file,id=console,path=console", "-serial", "chardev:console"),
            # Results on standard output, through the same port as in Bochs.
            *("-chardev", "stdio,id=results,signal=off", "-device", "isa-debugcon,iobase=0xe9,chardev=results"),
        ]
