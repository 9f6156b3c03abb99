"""What a tick of the guests' clock is worth on this host.

The guests take times with RDTSC. On silicon that is a clock; in an emulator it counts instructions, and calling those
cycles or seconds would be a lie.
"""

from kvmharness.lean.dataclasses import dataclass

UNIT_TSC = "tsc cycles"
UNIT_EMULATED = "instructions (emulated)"
"""The units of samples: on silicon and in an emulated host."""

_CPUINFO = "/proc/cpuinfo"
_CLOCKSOURCE = "/sys/devices/system/clocksource/clocksource0/current_clocksource"


@dataclass(frozen=True, slots=True)
class TscFacts:
    """The host's time stamp counter.

    Attributes:
        constant: it ticks at one rate, whatever the core's clock.
        nonstop: it goes on in deep sleep states.
        trusted: the kernel itself takes the time from it; False also when the kernel's choice cannot be read.
        emulator: who emulates this host, empty on silicon and under hardware virtualization.
    """

    constant: bool
    nonstop: bool
    trusted: bool
    emulator: str = ""

    @property
    def problem(self) -> str:
        """Why times from this clock are not to be trusted; empty when they are, and for counted instructions."""
        if self.emulator:
            return ""
        if not self.constant:
            return "the TSC's rate follows the core's clock (no constant_tsc): times depend on frequency scaling"
        if not self.nonstop:
            return "the TSC stops in deep sleep states (no nonstop_tsc): times lack the sleep"
        if not self.trusted:
            return f"the kernel does not use the TSC as its own clock: see {_CLOCKSOURCE} and `dmesg | grep -i tsc`"
        return ""


def tsc_facts(*, emulator: str = "", root: str = "") -> TscFacts:
    """Reads what the kernel found out about the TSC.

    Args:
        emulator: who emulates this host, if somebody does.
        root: prefix of ``/sys`` and ``/proc``, for tests.
    """
    flags = _cpu_flags(root + _CPUINFO)
    return TscFacts(
        constant="constant_tsc" in flags,
        nonstop="nonstop_tsc" in flags,
        trusted=_first_line(root + _CLOCKSOURCE) == "tsc",
        emulator=emulator,
    )


def _cpu_flags(path: str) -> frozenset[str]:
    try:
        with open(path, encoding="utf-8") as file:
            line = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        line = ""
    return frozenset(line.partition(":")[2].split())


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.readline().strip()
    except OSError:
        return ""
