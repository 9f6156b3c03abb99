"""What QEMU's options ask of a machine, and which of that the VMM here has not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kvmharness.suites.unittests import processor
from kvmharness.suites.unittests.processor import Processor

_DIGITS = 12  # of a size of memory; more of them is none that there is
_MEMORY_MB = 128  # QEMU's own default
_MB = {"k": 1 / 1024, "m": 1, "g": 1024, "t": 1024 * 1024}
# Of these all is here, or nothing that a test could see.
_WITHOUT_VALUE = frozenset(("enable-kvm", "no-reboot", "nodefaults", "nographic", "no-shutdown", "S"))
_WITH_VALUE = frozenset(("display", "vnc", "serial", "vga", "rtc", "name", "global", "monitor", "d", "D"))
_DEVICES = frozenset(("pc-testdev", "testdev", "isa-debug-exit"))
_MACHINES = frozenset(("pc", "q35", "accel=kvm", "pit=on", "vmport=off", "kernel-irqchip=on", "smm=on", "usb=off"))


@dataclass(slots=True)
class Wanted:
    """A machine.

    Attributes:
        memory_mb: of the guest.
        processor: what its CPUID says.
        pit: whether it has an interval timer.
        cpu_pm: whether the guest's HLT, MWAIT and PAUSE stay in the guest.
        append: the kernel's command line, of options of old; None when they say nothing of it.
        missing: what it has that cannot be had here, the first of it; empty when all can.
        notes: what is left out of account.
    """

    memory_mb: int = _MEMORY_MB
    processor: Processor = field(default_factory=Processor)
    pit: bool = True
    cpu_pm: bool = False
    append: str | None = None
    missing: str = ""
    notes: list[str] = field(default_factory=list)

    def lacks(self, what: str) -> None:
        """Says that something cannot be had; the first that is said counts."""
        self.missing = self.missing or what


def read(words: Sequence[str]) -> Wanted:
    """Reads the options of one test."""
    wanted = Wanted()
    rest = iter(words)
    for word in rest:
        name = word.lstrip("-")
        if not word.startswith("-"):
            wanted.lacks(f"QEMU's argument {word!r}")
        elif name not in _WITHOUT_VALUE:
            _with_value(wanted, name, rest)
    wanted.lacks(wanted.processor.missing)
    wanted.notes += wanted.processor.notes
    return wanted


def _with_value(wanted: Wanted, name: str, rest: Iterator[str]) -> None:
    value = next(rest, "")
    match name:
        case "cpu":
            wanted.processor = processor.read(value)
        case "m":
            _memory(wanted, value)
        case "append":
            wanted.append = value
        case "machine" | "M":
            for part in filter(None, value.split(",")):
                _machine(wanted, part)
        case "overcommit" if value in ("cpu-pm=on", "cpu-pm=off"):
            wanted.cpu_pm = value.endswith("on")
        case "device":
            if value.partition(",")[0] not in _DEVICES:
                wanted.lacks(f"the device {value.partition(',')[0]}")
        case "accel":
            _machine(wanted, f"accel={value}")
        case _ if name not in _WITH_VALUE:
            wanted.lacks(f"what QEMU's option -{name} {value}".rstrip() + " stands for")


def _memory(wanted: Wanted, value: str) -> None:
    size = value.partition(",")[0].removeprefix("size=").lower()
    number, unit = (size[:-1], size[-1]) if size[-1:] in _MB else (size, "m")
    if not number.isdecimal() or len(number) > _DIGITS or int(number) * _MB[unit] < 1:
        wanted.lacks(f"memory of the size {value!r}, which cannot be read")
    else:
        wanted.memory_mb = int(int(number) * _MB[unit])


def _machine(wanted: Wanted, part: str) -> None:
    if part == "pit=off":
        wanted.pit = False
    elif part.removeprefix("type=") not in _MACHINES:
        wanted.lacks({"vmport=on": "VMware's port (vmport)"}.get(part, f"the machine's property {part}"))
