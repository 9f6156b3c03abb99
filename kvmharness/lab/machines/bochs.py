"""Bochs: an emulated host with VMX (EPT, VPID, unrestricted guest, shadow VMCS, by CPU model), exactly repeatable."""

import re
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from kvmharness.lab.image.initramfs import write_iso
from kvmharness.lab.machines.emulator import CONSOLE, INITRAMFS, MEMORY_MB, EmulatedMachine
from kvmharness.system.programs import find

# Emulated instructions a second. About what the emulator does on a current machine, so that emulated time passes like
# ours.
IPS = 50_000_000


@dataclass(frozen=True, slots=True)
class Bochs(EmulatedMachine):
    """A machine that Bochs emulates."""

    program = "bochs"
    version_option = "--help"
    # A display that is none, and listens on no port.
    environment = MappingProxyType({"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"})

    def version(self, said: str) -> str:
        """Its first word after the name."""
        found = re.search(r"Bochs x86 Emulator (\S+)", said)
        return found[1] if found else ""

    def command(self, folder: Path) -> list[str]:
        """Writes a boot ISO and Bochs' settings."""
        command_line = self.kernel_command_line(f"tsc_early_khz={IPS // 1000}")
        write_iso(folder / "boot.iso", self.kernel, folder / INITRAMFS, command_line)
        (folder / "bochsrc").write_text(self._settings())
        # Debian's build has the debugger compiled in, which waits for a command before the first instruction.
        (folder / "debugger").write_text("c\n")
        return [self.program, "-q", "-f", "bochsrc", "-rc", "debugger"]

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
