"""Bochs: an emulated host with VMX (EPT, VPID, unrestricted guest, shadow VMCS, by CPU model), exactly repeatable."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kvmharness.lab.image.initramfs import write_iso
from kvmharness.lab.machines.emulator import CONSOLE, INITRAMFS, MEMORY_MB, EmulatedMachine
from kvmharness.lab.machines.snapshot import bochs as snapshot
from kvmharness.lab.machines.snapshot.state import STATE, reserved_memory
from kvmharness.system.programs import find

# Emulated instructions a second. About what the emulator does on a current machine, so that emulated time passes like
# ours.
IPS = 50_000_000


@dataclass(frozen=True, slots=True)
class Bochs(EmulatedMachine):
    """A machine that Bochs emulates."""

    program = "bochs"
    version_option = "--help"
    binary = "bochs-bin"  # bochs is a script that starts it
    memory_file = snapshot.MEMORY

    def version(self, said: str) -> str:
        """Its first word after the name."""
        found = re.search(r"Bochs x86 Emulator (\S+)", said)
        return found[1] if found else ""

    def environment(self) -> Mapping[str, str]:
        """A display that is none and listens on no port; and, with a compiler, an RDRAND that repeats."""
        preloaded = snapshot.shared_object()
        more = {"LD_PRELOAD": str(preloaded)} if preloaded else {}
        return {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", **more}

    def command(self, folder: Path) -> list[str]:
        """Writes a boot ISO and Bochs' settings."""
        return self._command(folder)

    def _command(self, folder: Path, *words: str) -> list[str]:
        command_line = self.kernel_command_line(f"tsc_early_khz={IPS // 1000}", *words)
        write_iso(folder / "boot.iso", self.kernel, folder / INITRAMFS, command_line)
        (folder / "bochsrc").write_text(self._settings())
        return [self.program, "-q", "-f", "bochsrc", *_go_on(folder)]

    def cannot_be_saved(self) -> str:
        """See :class:`EmulatedMachine`."""
        version = self.description.split()[1]
        if version != snapshot.VERSION:
            return f"how Bochs {version} saves a host is not known, only how Bochs {snapshot.VERSION} does"
        if snapshot.shared_object() is None:
            return "to save a host in Bochs takes a C compiler: install gcc and libc6-dev"
        return ""

    def save(self, folder: Path) -> None:
        """See :class:`EmulatedMachine`."""
        self.write_waiting(folder, snapshot.PORT, snapshot.SAVE_BYTE)
        command = self._command(folder, reserved_memory())
        snapshot.save(command, folder, folder / STATE, dict(self.environment()))

    def restore_command(self, folder: Path) -> list[str]:
        """See :class:`EmulatedMachine`."""
        return [self.program, "-q", "-r", STATE, *_go_on(folder)]

    def restore_environment(self) -> Mapping[str, str]:
        """See :class:`EmulatedMachine`."""
        return {**self.environment(), "KVMHARNESS_RESTORE_FROM": STATE}

    def _settings(self) -> str:
        bios, vga = find("BIOS-bochs-latest"), find("VGABIOS")
        find("libbx_sdl2_gui.so")
        cpu = f"cpu: model={self.host.model}, count=1, ips={IPS}, ignore_bad_msrs=1, reset_on_triple_fault=0"
        return "\n".join(
            (
                f"romimage: file={bios}",
                f"vgaromimage: file={vga}",
                f"memory: guest={MEMORY_MB}, host={MEMORY_MB}",
                cpu,
                # The clock follows emulated instructions and starts at a fixed time: runs repeat exactly.
                "clock: sync=none, time0=1700000000",
                "display_library: sdl2",
                "boot: cdrom",
                "ata0-master: type=cdrom, path=boot.iso, status=inserted",
                f"com1: enabled=1, mode=file, dev={CONSOLE}",
                "port_e9_hack: enabled=1",
                "magic_break: enabled=0",
                "log: bochs.log",
                # A guest that does something odd is logged; only what the emulator cannot go on after ends it.
                "panic: action=fatal",
                "error: action=ignore",
                "info: action=ignore",
                "debug: action=ignore",
                "",
            )
        )


def _go_on(folder: Path) -> list[str]:
    """Debian's build has the debugger compiled in, which waits for a command before the first instruction."""
    (folder / "debugger").write_text("c\n")
    return ["-rc", "debugger"]
