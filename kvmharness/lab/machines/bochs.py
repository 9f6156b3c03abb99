"""Bochs: an emulated host with VMX (EPT, VPID, unrestricted guest, shadow VMCS, by CPU model), exactly repeatable."""

import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from kvmharness.errors import UsageError
from kvmharness.hosts.facts import LAB_MARKER
from kvmharness.lab.image.initramfs import COMMAND_LINE, ImageParts, write_initramfs, write_iso
from kvmharness.lab.job import Job, OnEvent
from kvmharness.lab.machines.supervisor import supervise
from kvmharness.system.programs import find

# Emulated instructions a second. About what the emulator does on a current machine, so that emulated time passes like
# ours.
IPS = 50_000_000
MEMORY_MB = 512

# What L0 then has: penryn no EPT (shadow paging); lynnfield EPT and VPID; sandybridge + unrestricted guest;
# haswell + shadow VMCS and EPT A/D; skylake + PML and TSC scaling.
CPUS = {
    "penryn": "core2_penryn_t9600",
    "lynnfield": "corei5_lynnfield_750",
    "sandybridge": "corei7_sandy_bridge_2600k",
    "haswell": "corei7_haswell_4770",
    "skylake": "corei7_skylake_x",
}
DEFAULT_CPU = "skylake"
# Bochs says that a compacted XSAVE area has the size of a standard one; the kernel warns at that and gives up XSAVE.
_QUIRKS = {"skylake": "clearcpuid=xsavec,xsaves"}


@dataclass(frozen=True, slots=True)
class Bochs:
    """A machine that Bochs emulates (see :class:`kvmharness.lab.job.Machine`).

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
                f"no CPU model {self.cpu!r} for the emulated VMX host", f"choose one of: {', '.join(CPUS)}"
            )

    @property
    def description(self) -> str:
        """Emulator, version, CPU model."""
        said = subprocess.run([find("bochs"), "--help"], capture_output=True, text=True, check=False)
        version = re.search(r"Bochs x86 Emulator (\S+)", said.stdout + said.stderr)
        return f"Bochs {version[1] if version else ''} {CPUS[self.cpu]}"

    def run(self, job: Job, on_event: OnEvent) -> None:
        """See :meth:`kvmharness.lab.job.Machine.run`."""
        job.check()
        find("bochs")
        with tempfile.TemporaryDirectory(prefix="kvmharness-bochs-") as name:
            folder = Path(name)
            write_initramfs(folder / "initrd", self.parts, job)
            words = (
                COMMAND_LINE,
                f"{LAB_MARKER}vmx:{self.cpu}",
                f"tsc_early_khz={IPS // 1000}",
                _QUIRKS.get(self.cpu, ""),
            )
            command_line = " ".join(word for word in (*words, self.command_line) if word)
            write_iso(folder / "boot.iso", self.kernel, folder / "initrd", command_line)
            (folder / "bochsrc").write_text(self._settings())
            # Debian's build has the debugger compiled in, which waits for a command before the first instruction.
            (folder / "debugger").write_text("c\n")
            supervise(
                ["bochs", "-q", "-f", "bochsrc", "-rc", "debugger"],
                name=f"the emulated host (Bochs, {self.cpu})",
                console_path=folder / "console",
                folder=folder,
                on_event=on_event,
                timeout_s=job.timeout_s,
                silence_s=job.silence_s,
                # A display that is none, and listens on no port.
                env={"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"},
            )

    def _settings(self) -> str:
        bios, vga = find("BIOS-bochs-latest"), find("VGABIOS")
        find("libbx_sdl2_gui.so")
        return "\n".join(
            (
                f"romimage: file={bios}",
                f"vgaromimage: file={vga}",
                f"memory: guest={MEMORY_MB}, host={MEMORY_MB}",
                f"cpu: model={CPUS[self.cpu]}, count=1, ips={IPS}, ignore_bad_msrs=1, reset_on_triple_fault=0",
                # The clock follows emulated instructions and starts at a fixed time: runs repeat exactly.
                "clock: sync=none, time0=1700000000",
                "display_library: sdl2",
                "boot: cdrom",
                "ata0-master: type=cdrom, path=boot.iso, status=inserted",
                "com1: enabled=1, mode=file, dev=console",
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
