"""Bochs: an emulated host with VMX (EPT, VPID, unrestricted guest, shadow VMCS, by CPU model), exactly repeatable."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kvmharness.errors import UsageError
from kvmharness.lab.image.initramfs import write_iso
from kvmharness.lab.machines.emulator import CONSOLE, INITRAMFS, MEMORY_MB, EmulatedMachine
from kvmharness.lab.machines.own import Build, ask
from kvmharness.lab.machines.snapshot import bochs as snapshot
from kvmharness.lab.machines.snapshot.state import STATE, reserved_memory
from kvmharness.system.programs import find

# Emulated instructions a second. About what the emulator does on a current machine, so that emulated time passes like
# ours.
IPS = 50_000_000

# What shows the guest's display: those that open neither a window nor a port.
_DISPLAYS = ("sdl2", "nogui", "sdl")
_DEBUGGER, _SOUND = "debugger", "sound"
_SILENT = "sound: driver=dummy"
_VERSION = re.compile(r"Bochs x86 Emulator (\S+)")


@dataclass(frozen=True, slots=True)
class Bochs(EmulatedMachine):
    """A machine that Bochs emulates."""

    program = "bochs"
    version_option = "--help"
    binary = "bochs-bin"  # bochs is a script that starts it
    memory_file = snapshot.MEMORY
    words = (f"tsc_early_khz={IPS // 1000}",)

    def version(self, said: str) -> str:
        """Its first word after the name."""
        found = _VERSION.search(said)
        return found[1] if found else ""

    @classmethod
    def recognise(cls, program: Path) -> Build | None:
        """See :class:`EmulatedMachine`; its parts are its display, and debugger and sound where it has them."""
        said = ask(program, "--help")
        if (found := _VERSION.search(said)) is None:
            return None

        def takes(setting: str) -> bool:
            # Without a ROM it does not get any further than its settings.
            answer = ask(program, "-q", "-n", setting, "romimage: file=/nowhere", "panic: action=fatal")
            return "' not available" not in answer and "' not understood" not in answer

        display = next((name for name in _DISPLAYS if takes(f"display_library: {name}")), None)
        if display is None:
            raise UsageError(
                f"{program} has no display library that needs neither a screen nor a port",
                "Build it with one of: " + ", ".join(f"--with-{name}" for name in _DISPLAYS),
            )
        parts = {display: True, _DEBUGGER: "-rc filename" in said, _SOUND: takes(_SILENT)}
        return Build(found[1], frozenset(name for name, there in parts.items() if there))

    def environment(self) -> Mapping[str, str]:
        """A display that is none and listens on no port; and, with a compiler, an RDRAND that repeats."""
        preloaded = snapshot.shared_object()
        more = {"LD_PRELOAD": str(preloaded)} if preloaded else {}
        return {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", **more}

    def command(self, folder: Path) -> list[str]:
        """Writes a boot ISO and Bochs' settings."""
        return self._command(folder)

    def _command(self, folder: Path, *words: str) -> list[str]:
        command_line = self.kernel_command_line(*words)
        write_iso(folder / "boot.iso", self.kernel, folder / INITRAMFS, command_line)
        (folder / "bochsrc").write_text(self._settings())
        return [self.executable, "-q", "-f", "bochsrc", *self._go_on(folder)]

    def cannot_be_saved(self) -> str:
        """See :class:`EmulatedMachine`."""
        version = self.description.split()[1]
        if version != snapshot.VERSION:
            return f"how Bochs {version} saves a host is not known, only how Bochs {snapshot.VERSION} does"
        if snapshot.shared_object() is None:
            return "to save a host in Bochs takes a C compiler: install gcc and libc6-dev"
        if self.own and not snapshot.can_save(self.own.path):
            return f"{self.own.path} does not export what saves a host: build it with --enable-plugins"
        return ""

    def save(self, folder: Path) -> None:
        """See :class:`EmulatedMachine`."""
        self.write_waiting(folder, snapshot.PORT, snapshot.SAVE_BYTE)
        command = self._command(folder, reserved_memory())
        snapshot.save(command, folder, folder / STATE, dict(self.environment()))

    def restore_command(self, folder: Path) -> list[str]:
        """See :class:`EmulatedMachine`."""
        return [self.executable, "-q", "-r", STATE, *self._go_on(folder)]

    def restore_environment(self) -> Mapping[str, str]:
        """See :class:`EmulatedMachine`."""
        return {**self.environment(), "KVMHARNESS_RESTORE_FROM": STATE}

    def _settings(self) -> str:
        bios, vga = find("BIOS-bochs-latest"), find("VGABIOS")
        if not self.own:
            find("libbx_sdl2_gui.so")
        display = next(filter(self._has, _DISPLAYS))
        cpu = f"cpu: model={self.host.model}, count=1, ips={IPS}, ignore_bad_msrs=1, reset_on_triple_fault=0"
        return "\n".join(
            (
                f"romimage: file={bios}",
                f"vgaromimage: file={vga}",
                f"memory: guest={MEMORY_MB}, host={MEMORY_MB}",
                cpu,
                # The clock follows emulated instructions and starts at a fixed time: runs repeat exactly.
                # Where somebody sits before it, it waits when it has nothing to do.
                f"clock: sync={'slowdown' if self.attached.terminal else 'none'}, time0=1700000000",
                f"display_library: {display}",
                "boot: cdrom",
                "ata0-master: type=cdrom, path=boot.iso, status=inserted",
                f"com1: enabled=1, mode=file, dev={CONSOLE}",
                *([f"com2: enabled=1, mode=term, dev={self.attached.terminal}"] if self.attached.terminal else []),
                "port_e9_hack: enabled=1",
                *(["magic_break: enabled=0"] if self._has(_DEBUGGER) else []),
                # SDL, which Debian's build plays sound with, is told in its environment.
                *([_SILENT] if self.own and self._has(_SOUND) else []),
                "log: bochs.log",
                # A guest that does something odd is logged; only what the emulator cannot go on after ends it.
                "panic: action=fatal",
                "error: action=ignore",
                "info: action=ignore",
                "debug: action=ignore",
                "",
            )
        )

    def _has(self, part: str) -> bool:
        """Whether it was built with a part; the installed one has all of them."""
        return self.own is None or part in self.own.build.parts

    def _go_on(self, folder: Path) -> list[str]:
        """A debugger, which Debian's build has, waits for a command before the first instruction."""
        if not self._has(_DEBUGGER):
            return []
        (folder / "debugger").write_text("c\n")
        return ["-rc", "debugger"]
