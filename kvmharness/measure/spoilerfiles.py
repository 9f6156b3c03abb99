"""The files of /proc and /sys that tell what disturbs a run, each read below a root; what is missing is not known."""

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

_VM = "anon_inode:kvm-vm"
_CPUS_MAX = 8192  # CONFIG_NR_CPUS of x86 goes no further


class Load(NamedTuple):
    """What a CPU did since the start, in ticks of USER_HZ."""

    busy: int  # of any thread, the kernel and its interrupts
    steal: int  # the hypervisor below gave it to somebody else


class Idle(NamedTuple):
    """An idle state of a CPU."""

    name: str
    latency_us: int
    disabled: bool
    entered: int  # times since the start


class Sysfs:
    """What is below /sys/devices/system/cpu."""

    def __init__(self, root: str) -> None:
        self._root = root

    def path(self, name: str) -> str:
        """Where a file is on a real machine."""
        return f"/sys/devices/system/cpu/{name}"

    def text(self, name: str) -> str:
        """A file's text; empty where there is none."""
        return _read(self._root, self.path(name)).strip()

    def number(self, name: str) -> int | None:
        """A file's number; None where there is none."""
        return _integer(self.text(name))

    def mitigations(self) -> tuple[str, ...]:
        """The vulnerabilities against which the kernel does something."""
        folder = "vulnerabilities"
        names = _names(self._root, self.path(folder))
        return tuple(name for name in names if self.text(f"{folder}/{name}").startswith("Mitigation"))


def idle_states(sysfs: Sysfs, cpu: int) -> tuple[Idle, ...]:
    """The idle states that a CPU has, from the lightest on."""
    found = []
    for number in range(64):  # the kernel has at most 10 (CPUIDLE_STATE_MAX)
        state = f"cpu{cpu}/cpuidle/state{number}"
        name, latency = sysfs.text(f"{state}/name"), sysfs.number(f"{state}/latency")
        if not name or latency is None:
            break
        disabled = sysfs.text(f"{state}/disable") == "1"
        found.append(Idle(name, latency, disabled, sysfs.number(f"{state}/usage") or 0))
    return tuple(found)


def cpu_list(text: str) -> tuple[int, ...]:
    """The CPUs of a list as the kernel writes it: ``0-2,8``. Empty when it is none."""
    found: list[int] = []
    for part in text.split(","):
        start, dash, end = part.strip().partition("-")
        first, last = _integer(start), _integer(end if dash else start)
        if first is None or last is None or last >= _CPUS_MAX:
            return ()
        found += range(first, last + 1)
    return tuple(found)


def load(root: str) -> dict[int, Load]:
    """What each CPU did. Source: proc.rst, "Miscellaneous kernel statistics in /proc/stat"."""
    found = {}
    for line in _read(root, "/proc/stat").splitlines():
        name, _, rest = line.partition(" ")
        words, cpu = rest.split(), _integer(name.removeprefix("cpu"))
        if not name.startswith("cpu") or cpu is None or len(words) < 8:
            continue
        with suppress(ValueError):
            user, nice, system, _, _, irq, softirq, steal = map(int, words[:8])  # a guest's time is in user and nice
            found[cpu] = Load(user + nice + system + irq + softirq, steal)
    return found


def interrupts(root: str, cpus: Sequence[int]) -> dict[str, int]:
    """The interrupts that some CPUs took, by the name of who sent them, or the kernel's short name."""
    header, *lines = _read(root, "/proc/interrupts").splitlines() or [""]
    columns = [_integer(word.removeprefix("CPU")) for word in header.split()]  # of the CPUs that are online
    found: dict[str, int] = {}
    for line in lines:
        label, _, rest = line.partition(":")
        words = rest.split()
        counts = [_integer(word) for word in words[: len(columns)]]
        if len(counts) < len(columns) or None in counts:  # the counts of errors are of no CPU
            continue
        name = words[-1] if label.strip().isdecimal() and len(words) > len(columns) else label.strip()
        taken = sum(count for cpu, count in zip(columns, counts, strict=True) if count and cpu in cpus)
        found[name] = found.get(name, 0) + taken
    return found


def own_ticks(root: str) -> int | None:
    """The processor time of the calling thread. Source: proc(5), "/proc/pid/stat", fields 14 and 15."""
    words = _read(root, "/proc/thread-self/stat").rpartition(")")[2].split()
    if len(words) < 13:
        return None
    user, system = _integer(words[11]), _integer(words[12])
    return None if user is None or system is None else user + system


def migrations(root: str) -> int | None:
    """How often the calling thread went to another CPU; a kernel without CONFIG_SCHED_DEBUG does not tell."""
    return _field(_read(root, "/proc/thread-self/sched"), "se.nr_migrations")


def preemptions(root: str) -> int | None:
    """How often the calling thread was taken off its CPU."""
    return _field(_read(root, "/proc/thread-self/status"), "nonvoluntary_ctxt_switches")


def other_vms(root: str) -> tuple[str, ...]:
    """The other processes that have a VM of KVM, as far as this user may see them: "name (pid)"."""
    found = []
    for pid in _names(root, "/proc"):
        if not pid.isdecimal() or int(pid) == os.getpid():
            continue
        folder = f"/proc/{pid}/fd"
        if any(_link(root, f"{folder}/{fd}").startswith(_VM) for fd in _names(root, folder)):
            found.append(f"{_read(root, f'/proc/{pid}/comm').strip()} ({pid})")
    return tuple(found)


def _field(text: str, name: str) -> int | None:
    """The number behind a name and a colon, on a line of its own."""
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip() == name:
            return _integer(value.strip())
    return None


def _integer(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) <= 20 else None  # 64 bits have no more digits


def _names(root: str, folder: str) -> list[str]:
    try:
        return sorted(os.listdir(root.rstrip("/") + folder))
    except OSError:
        return []


def _link(root: str, path: str) -> str:
    try:
        return os.readlink(root.rstrip("/") + path)
    except OSError:
        return ""


def _read(root: str, path: str) -> str:
    try:
        with open(root.rstrip("/") + path, "rb", 0) as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
