"""Counts of kernel functions and tracepoints on one thread, by perf events.

The events belong to the thread that opens them, count nobody else's VMs, and vanish with their file descriptors even
when the process is killed. What a host does not offer is in :attr:`Counters.missing` with the reason and the remedy; it
is never a zero.

Counting slows every hit down: never take times from a pass that counts.
"""

import os
from collections.abc import Iterable, Mapping
from errno import EACCES, EADDRNOTAVAIL, EINVAL, EMFILE, ENOENT, ENOSYS, EPERM, errorcode
from struct import unpack
from typing import Any

from kvmharness.abi.binding import ffi, ioctl_pointer, ioctl_value, lib
from kvmharness.errors import KvmHarnessError
from kvmharness.kvm.resources import FdHolder, Owner
from kvmharness.lean.dataclasses import dataclass

OTHER = "other"
"""In :func:`exits_by_reason`: exits with a reason nobody asked for."""

_TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_KPROBE_PMU = "/sys/bus/event_source/devices/kprobe/type"
_THIS_THREAD, _ANY_CPU, _NO_GROUP = 0, -1, -1


@dataclass(frozen=True, slots=True)
class Kprobe:
    """Counts the calls of a kernel function that is not inlined."""

    function: str

    @property
    def name(self) -> str:
        """The key of this count."""
        return self.function


@dataclass(frozen=True, slots=True)
class Tracepoint:
    """Counts the hits of a tracepoint.

    Attributes:
        event: subsystem and event, for example ``kvm:kvm_exit``.
        filter: the kernel's filter expression; empty for every hit.
        label: the key of this count, the event's own name when empty.
    """

    event: str
    filter: str = ""
    label: str = ""

    @property
    def name(self) -> str:
        """The key of this count."""
        return self.label or self.event.partition(":")[2]


Spec = Kprobe | Tracepoint


def spec_to_json(spec: Spec) -> dict[str, str]:
    """Plain data."""
    if isinstance(spec, Kprobe):
        return {"function": spec.function}
    return {"event": spec.event, "filter": spec.filter, "label": spec.label}


def spec_from_json(data: Mapping[str, str]) -> Spec:
    """The inverse of :func:`spec_to_json`."""
    return Kprobe(data["function"]) if "function" in data else Tracepoint(**data)


ROOT_SWITCHES = (Kprobe("kvm_mmu_load"), Kprobe("kvm_mmu_new_pgd"))
"""The misses of the root cache, and all its switches: see :mod:`kvmharness.oracle.rootcache`."""

NESTED_EXITS = Tracepoint("kvm:kvm_nested_vmexit")
"""Exits from L2, whether L0 or L1 handles them."""

_ALL_EXITS = Tracepoint("kvm:kvm_exit")


class CountingError(KvmHarnessError):
    """A counter that was open cannot be used, or did not count all the time."""


class Counters(Owner):
    """Open counters. One system call each to reset, enable, disable and read, whatever their number.

    Attributes:
        missing: what could not be opened, by name: why, and what to do about it.
    """

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}
        self._groups: list[_Group] = []

    @property
    def names(self) -> tuple[str, ...]:
        """What is counted."""
        return tuple(name for group in self._groups for name in group.names)

    def reset(self) -> None:
        """Sets all counts to zero."""
        for group in self._groups:
            group.control(lib.PERF_EVENT_IOC_RESET, lib.PERF_IOC_FLAG_GROUP)

    def enable(self) -> None:
        """Starts counting."""
        for group in self._groups:
            group.control(lib.PERF_EVENT_IOC_ENABLE)

    def disable(self) -> None:
        """Stops counting; the counts stay."""
        for group in self._groups:
            group.control(lib.PERF_EVENT_IOC_DISABLE)

    def read(self) -> dict[str, int]:
        """The counts since the last reset, by name.

        Raises:
            CountingError: an event was not scheduled for part of the time.
        """
        return {name: count for group in self._groups for name, count in group.read()}

    def start(self) -> None:
        """From zero on, now."""
        self.reset()
        self.enable()

    def stop(self) -> dict[str, int]:
        """Stops counting and answers the counts since :meth:`start`."""
        self.disable()
        return self.read()

    def close(self) -> None:
        """Closes all events; harmless when called again."""
        while self._groups:
            self._groups.pop().close()

    def add(self, spec: Spec, attr: Any) -> int:
        """Opens one event, in the last group if the kernel lets it; answers 0 or errno."""
        errno = self._groups[-1].add(spec, attr) if self._groups else EINVAL
        if errno == EINVAL:  # the first one, or events of these kinds do not go together here
            group = _Group()
            errno = group.add(spec, attr)
            if not errno:
                self._groups.append(group)
        return errno


class _Group:
    """Events that start, stop and are read together. The first one, the leader, stands for all."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._events: list[FdHolder] = []

    def add(self, spec: Spec, attr: Any) -> int:
        attr.disabled = not self._events  # members follow their leader
        leader = self._events[0].number if self._events else _NO_GROUP
        number = _perf_event_open(attr, leader)
        if number < 0:
            return int(ffi.errno)
        event = FdHolder(number, 0, f"perf event {spec.name}")
        expression = spec.filter if isinstance(spec, Tracepoint) else ""
        pointer = ffi.new("char[]", expression.encode())
        if expression and ioctl_pointer(number, lib.PERF_EVENT_IOC_SET_FILTER, pointer):
            errno = int(ffi.errno)
            event.close()
            return errno
        self._events.append(event)
        self.names.append(spec.name)
        return 0

    def control(self, request: int, flags: int = 0) -> None:
        if ioctl_value(self._events[0].number, request, flags):
            raise CountingError(f"cannot control the perf events {', '.join(self.names)}: {_named(int(ffi.errno))}")

    def read(self) -> Iterable[tuple[str, int]]:
        words = 3 + len(self._events)
        number, enabled_ns, running_ns, *counts = unpack(f"{words}Q", os.read(self._events[0].number, 8 * words))
        assert number == len(counts)
        if running_ns < enabled_ns:
            raise CountingError(
                f"{', '.join(self.names)} counted during {running_ns} of {enabled_ns} ns only",
                "the counts would be estimates; stop other perf sessions on this thread",
            )
        return zip(self.names, counts, strict=True)

    def close(self) -> None:
        while self._events:
            self._events.pop().close()


def open_counters(specs: Iterable[Spec], *, root: str = "") -> Counters:
    """Opens what can be opened on the calling thread, not counting yet.

    Close it before a module that has one of the functions or tracepoints is to be unloaded.

    Args:
        specs: what to count; each name once.
        root: prefix of ``/sys`` and ``/proc``, for tests.
    """
    counters = Counters()
    try:
        seen: set[str] = set()
        for spec in specs:
            if spec.name in seen:
                raise ValueError(f"two counters are called {spec.name}")
            seen.add(spec.name)
            why = _open(counters, spec, root)
            if why:
                counters.missing[spec.name] = why
    except BaseException:
        counters.close()
        raise
    return counters


def exit_specs(reasons: Mapping[str, int]) -> tuple[Tracepoint, ...]:
    """What to count for :func:`exits_by_reason`.

    Args:
        reasons: a name for each wanted basic exit reason of the vendor.
    """
    wanted = (Tracepoint("kvm:kvm_exit", f"exit_reason=={code}", _label(name)) for name, code in reasons.items())
    return (_ALL_EXITS, *wanted)


def exits_by_reason(counts: Mapping[str, int], reasons: Mapping[str, int]) -> dict[str, int]:
    """Exits by reason. ``other`` is there only when every wanted reason and the total were counted."""
    found = {name: counts[_label(name)] for name in reasons if _label(name) in counts}
    total = counts.get(_ALL_EXITS.name)
    if total is not None and len(found) == len(reasons):
        found[OTHER] = total - sum(found.values())
    return found


def _label(reason: str) -> str:
    return f"kvm_exit {reason}"


def _open(counters: Counters, spec: Spec, root: str) -> str:
    """Adds one event, or answers why it is missing."""
    attr = ffi.new("struct perf_event_attr *")
    attr.size = lib.PERF_ATTR_SIZE_VER5
    attr.read_format = lib.PERF_FORMAT_GROUP | lib.PERF_FORMAT_TOTAL_TIME_ENABLED | lib.PERF_FORMAT_TOTAL_TIME_RUNNING
    keep: Any = None  # what the struct points to must live until the kernel has read it
    if isinstance(spec, Kprobe):
        pmu = _read_int(root + _KPROBE_PMU)
        if pmu is None:
            return f"no {_KPROBE_PMU}: the kernel was built without CONFIG_KPROBE_EVENTS, or /sys is not mounted"
        keep = ffi.new("char[]", spec.function.encode())
        attr.type, attr.config1 = pmu, int(ffi.cast("uintptr_t", keep))
    else:
        event_id = _tracepoint_id(spec.event, root)
        if isinstance(event_id, str):
            return event_id
        attr.type, attr.config = lib.PERF_TYPE_TRACEPOINT, event_id
    errno = counters.add(spec, attr)
    del keep
    return _explain(spec, errno, root) if errno else ""


def _perf_event_open(attr: Any, leader: int) -> int:
    # A variadic C function takes cffi objects only, and the kernel looks at whole registers.
    arguments = (_THIS_THREAD, _ANY_CPU, leader, lib.PERF_FLAG_FD_CLOEXEC)
    return lib.syscall(lib.SYS_perf_event_open, attr, *(ffi.cast("long", argument) for argument in arguments))


def _tracepoint_id(event: str, root: str) -> int | str:
    """The number the kernel gave this tracepoint when its module was loaded, or why it is not known."""
    subsystem, _, name = event.partition(":")
    for tracefs in _TRACEFS:
        event_id = _read_int(f"{root}{tracefs}/events/{subsystem}/{name}/id")
        if event_id is not None:
            return event_id
        try:
            os.listdir(f"{root}{tracefs}/events")
        except PermissionError:
            return f"{tracefs} can only be read by root: run as root"
        except OSError:
            continue
        return f"no {tracefs}/events/{subsystem}/{name}: `modprobe {subsystem}`, or the kernel lacks the event"
    return "tracefs is not mounted, so the event's number is unknown: `mount -t tracefs nodev /sys/kernel/tracing`"


def _explain(spec: Spec, errno: int, root: str) -> str:
    if errno in (EACCES, EPERM):
        paranoid = _read_int(f"{root}/proc/sys/kernel/perf_event_paranoid")
        return f"{_named(errno)}: run as root or with CAP_PERFMON (kernel.perf_event_paranoid is {paranoid})"
    reasons = {
        ENOSYS: "the kernel was built without CONFIG_PERF_EVENTS",
        EMFILE: "raise the limit of open files: `ulimit -n`",
    }
    if isinstance(spec, Kprobe):
        reasons |= {
            ENOENT: f"the running kernel has no function {spec.function} outside of others: is kvm loaded?",
            EADDRNOTAVAIL: f"several functions are called {spec.function}",
            EINVAL: f"{spec.function} cannot be probed, see /sys/kernel/debug/kprobes/blacklist",
        }
    elif spec.filter:
        reasons[EINVAL] = f"{spec.event} does not take the filter {spec.filter}"
    return f"{_named(errno)}: {reasons[errno]}" if errno in reasons else f"perf_event_open: {_named(errno)}"


def _named(errno: int) -> str:
    return f"{errorcode.get(errno, errno)} ({os.strerror(errno)})"


def _read_int(path: str) -> int | None:
    try:
        with open(path, "rb", 0) as file:
            return int(file.read())
    except (OSError, ValueError):
        return None
