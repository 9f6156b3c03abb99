"""QEMU without KVM (TCG): an emulated host with SVM and nested paging, repeatable when it counts instructions."""

import re
from dataclasses import dataclass
from pathlib import Path

from kvmharness.lab.machines.emulator import CONSOLE, INITRAMFS, MEMORY_MB, EmulatedMachine


@dataclass(frozen=True, slots=True)
class Qemu(EmulatedMachine):
    """A machine that QEMU emulates."""

    program = "qemu-system-x86_64"

    def version(self, said: str) -> str:
        """What emulates the instructions, and the version's number."""
        found = re.search(r"version (\S+)", said)
        return f"TCG {found[1] if found else ''}"

    def command(self, folder: Path) -> list[str]:
        """QEMU reads no file of ours but kernel and initramfs."""
        return [
            self.program,
            # One thread that counts instructions, and a clock that follows them: runs repeat.
            *("-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"),
            *("-rtc", "base=2020-01-01,clock=vm"),
            # Otherwise RDRAND gives this machine's own randomness.
            *("-seed", "1"),
            *("-cpu", self.host.model, "-m", str(MEMORY_MB)),
            # Nothing that could take an interrupt or a file of ours.
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-monitor", "none"),
            *("-kernel", str(self.kernel.resolve()), "-initrd", INITRAMFS, "-append", self.kernel_command_line()),
            *("-chardev", f"file,id=console,path={CONSOLE}", "-serial", "chardev:console"),
            # Results on standard output, through the same port as in Bochs.
            *("-chardev", "stdio,id=results,signal=off", "-device", "isa-debugcon,iobase=0xe9,chardev=results"),
        ]
