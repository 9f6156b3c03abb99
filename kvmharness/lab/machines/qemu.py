"""QEMU without KVM (TCG): an emulated host with SVM and nested paging, repeatable when it counts instructions."""

import re
from dataclasses import dataclass
from pathlib import Path

from kvmharness.errors import UsageError
from kvmharness.lab.machines.emulator import CONSOLE, INITRAMFS, MEMORY_MB, EmulatedMachine
from kvmharness.lab.machines.own import Build, ask
from kvmharness.lab.machines.snapshot import qemu as snapshot
from kvmharness.lab.machines.snapshot.state import reserved_memory

_VERSION = re.compile(r"QEMU emulator version (\S+)")
_EMULATES = b'{"execute": "qmp_capabilities"}\n{"execute": "query-target"}\n{"execute": "quit"}\n'


@dataclass(frozen=True, slots=True)
class Qemu(EmulatedMachine):
    """A machine that QEMU emulates."""

    program = "qemu-system-x86_64"
    memory_file = snapshot.MEMORY

    def version(self, said: str) -> str:
        """What emulates the instructions, and the version's number."""
        found = _VERSION.search(said)
        return f"TCG {found[1] if found else ''}"

    @classmethod
    def recognise(cls, program: Path) -> Build | None:
        """See :class:`EmulatedMachine`."""
        if (found := _VERSION.search(ask(program, cls.version_option))) is None:
            return None
        words = ("-M", "none", "-accel", "tcg", "-nodefaults", "-display", "none", "-qmp", "stdio")
        if '"arch": "x86_64"' not in ask(program, *words, told=_EMULATES):
            raise UsageError(
                f"{program} is a QEMU that does not emulate x86-64 by itself (TCG)",
                "Name a qemu-system-x86_64 in the place where it was installed.",
            )
        return Build(f"TCG {found[1]}")

    def command(self, folder: Path) -> list[str]:
        """QEMU reads no file of ours but kernel and initramfs."""
        return [
            *self._machine(),
            *self._boot(),
            # Results on standard output, through the same port as in Bochs.
            *("-chardev", "stdio,id=results,signal=off"),
            *self._attached(),
        ]

    def _attached(self) -> list[str]:
        terminal, gdb = self.attached.terminal, self.attached.gdb
        return [
            *(["-chardev", f"serial,id=terminal,path={terminal}", "-serial", "chardev:terminal"] if terminal else []),
            *(["-gdb", f"unix:{gdb},server=on,wait=off", "-S"] if gdb else []),
        ]

    def cannot_be_saved(self) -> str:
        """See :class:`EmulatedMachine`."""
        return ""

    def save(self, folder: Path) -> None:
        """See :class:`EmulatedMachine`."""
        self.write_waiting(folder, snapshot.PORT, snapshot.SAVE_BYTE)
        memory = snapshot.memory_options(MEMORY_MB, shared=True)
        results = ("-chardev", "null,id=results", "-qmp", "stdio")
        snapshot.save([*self._machine(), *self._boot(reserved_memory()), *memory, *results], folder)

    def restore_command(self, folder: Path) -> list[str]:
        """See :class:`EmulatedMachine`."""
        memory = snapshot.memory_options(MEMORY_MB, shared=False)
        results = ("-chardev", "file,id=results,path=/dev/stdout")
        return snapshot.restore_command([*self._machine(), *memory, *results], folder)

    def _boot(self, *words: str) -> list[str]:
        command_line = self.kernel_command_line(*words)
        return ["-kernel", str(self.kernel.resolve()), "-initrd", INITRAMFS, "-append", command_line]

    def _machine(self) -> list[str]:
        return [
            self.executable,
            # One thread that counts instructions, and a clock that follows them: runs repeat.
            *("-accel", "tcg,thread=single", "-icount", f"shift=0,sleep={'on' if self.attached.terminal else 'off'}"),
            *("-rtc", "base=2020-01-01,clock=vm"),
            # Otherwise RDRAND gives this machine's own randomness.
            *("-seed", "1"),
            *("-cpu", self.host.model, "-m", str(MEMORY_MB)),
            # Nothing that could take an interrupt or a file of ours.
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-monitor", "none"),
            *("-chardev", f"file,id=console,path={CONSOLE}", "-serial", "chardev:console"),
            *("-device", "isa-debugcon,iobase=0xe9,chardev=results"),
        ]
