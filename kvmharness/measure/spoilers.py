"""What a real host does that spoils figures: found, named, with its size and what to do about it. Changes nothing.

One snapshot of /proc and /sys shows what may disturb a run, and two of them, from before and after it, what did. Where
a file is missing, what it would tell is not known and not reported: it is no error.

Source: Documentation/admin-guide/pm/{cpufreq,intel_pstate,cpuidle}.rst, Documentation/filesystems/proc.rst.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kvmharness.measure.spoilerfiles import (
    Idle,
    Load,
    Sysfs,
    cpu_list,
    idle_states,
    interrupts,
    load,
    migrations,
    other_vms,
    own_ticks,
    preemptions,
)

TICKS_PER_S = 100  # USER_HZ, the unit of /proc/stat on x86
_SHARE_MIN = 0.01  # of the time: less is what any kernel does
_INTERRUPTS_MIN = 50  # a second: a CPU without a tick (nohz_full) has one
_LATENCY_MIN_US = 10  # a state that is left sooner is no sleep
_LISTED = 3


class Finding(NamedTuple):
    """One thing that spoils figures.

    Attributes:
        name: what it is called.
        size: how large it is here.
        why: what it does to figures.
        fix: what to do about it.
    """

    name: str
    size: str
    why: str
    fix: str

    def __str__(self) -> str:
        return f"{self.name}: {self.size}; {self.why} -> {self.fix}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known at one moment about some CPUs and the calling thread.

    Attributes:
        cpus: those that the vCPU's thread may run on.
        seconds: of a clock that only goes on.
        governor, limits_khz, current_khz: how the first of them is clocked; empty or None where it is not known.
        boost: the file that turns turbo on and off, and what to write to turn it off, where it is on.
        siblings: the other threads of their cores.
        idle: the idle states of the first.
        mitigations: the names of those that are on.
        loads: by CPU.
        interrupts: on these CPUs, by name.
        own_ticks, migrations, preemptions: of the calling thread, None where it is not known.
        vms: the other processes that have a VM, as "name (pid)".
    """

    cpus: tuple[int, ...]
    seconds: float
    governor: str = ""
    limits_khz: tuple[int, int] | None = None
    current_khz: int | None = None
    boost: tuple[str, str] | None = None
    siblings: tuple[int, ...] = ()
    idle: tuple[Idle, ...] = ()
    mitigations: tuple[str, ...] = ()
    loads: Mapping[int, Load] = field(default_factory=dict)
    interrupts: Mapping[str, int] = field(default_factory=dict)
    own_ticks: int | None = None
    migrations: int | None = None
    preemptions: int | None = None
    vms: tuple[str, ...] = ()


def snapshot(cpus: Sequence[int], root: str = "/") -> Snapshot:
    """Looks at what there is.

    Args:
        cpus: that the calling thread may run on.
        root: prefix of ``/proc`` and ``/sys``, for tests.
    """
    sysfs = Sysfs(root)
    first = f"cpu{cpus[0]}"
    lowest, highest = (sysfs.number(f"{first}/cpufreq/scaling_{end}_freq") for end in ("min", "max"))
    threads = {thread for cpu in cpus for thread in cpu_list(sysfs.text(f"cpu{cpu}/topology/thread_siblings_list"))}
    return Snapshot(
        cpus=tuple(cpus),
        seconds=time.monotonic(),
        governor=sysfs.text(f"{first}/cpufreq/scaling_governor"),
        limits_khz=None if lowest is None or highest is None else (lowest, highest),
        current_khz=sysfs.number(f"{first}/cpufreq/scaling_cur_freq"),
        boost=_boost(sysfs),
        siblings=tuple(sorted(threads - set(cpus))),
        idle=idle_states(sysfs, cpus[0]),
        mitigations=sysfs.mitigations(),
        loads=load(root),
        interrupts=interrupts(root, cpus),
        own_ticks=own_ticks(root),
        migrations=migrations(root),
        preemptions=preemptions(root),
        vms=other_vms(root),
    )


def _boost(sysfs: Sysfs) -> tuple[str, str] | None:
    for path, on, off in (("intel_pstate/no_turbo", "0", "1"), ("cpufreq/boost", "1", "0")):
        if sysfs.text(path) == on:
            return sysfs.path(path), off
    return None


def findings(before: Snapshot, after: Snapshot | None = None) -> tuple[Finding, ...]:
    """What spoils figures: what may, of one snapshot; what did, too, of one from before and one from after.

    What did takes the place of what may.
    """
    last = after or before
    found = [*_clock(before, last), *_idle(before, after), *_shared_core(before, after)]
    if after is not None:
        found += [*_neighbours(before, after), *_thread(before, after), *_interrupts(before, after)]
    if vms := sorted({*before.vms, *last.vms}):
        size = f"{len(vms)}: {_some(vms)}"
        found.append(Finding("other VMs", size, "they share caches, memory and KVM's locks", "stop them for the run"))
    if last.mitigations:
        why = "each makes entries and exits longer, some by more than a patch saves"
        fix = "compare runs with the same ones only; boot with mitigations=off to see the code alone"
        found.append(Finding("mitigations", f"{len(last.mitigations)} on: {_some(last.mitigations)}", why, fix))
    return tuple(found)


def _clock(before: Snapshot, last: Snapshot) -> Iterable[Finding]:
    if before.limits_khz is not None:
        (lowest, highest), now = before.limits_khz, last.current_khz
        if before.governor != "performance" or lowest != highest:
            size = f"governor {before.governor or 'not known'}, {lowest // 1000} to {highest // 1000} MHz"
            seen = dict.fromkeys(khz // 1000 for khz in (before.current_khz, now) if khz is not None)
            size += "".join(f", {'then' if place else 'at'} {mhz}" for place, mhz in enumerate(seen))
            why = "times are in TSC cycles, of which one is more or less work as the core's own clock changes"
            fix = f"sudo cpupower frequency-set -g performance -d {highest} -u {highest}"
            yield Finding("frequency scaling", size, why, fix)
    if before.boost:
        path, off = before.boost
        why = "the core's clock depends on its temperature and on what the other cores do"
        yield Finding("turbo", "on", why, f"echo {off} | sudo tee {path}")


def _idle(before: Snapshot, after: Snapshot | None) -> Iterable[Finding]:
    deep = [state for state in before.idle if state.latency_us >= _LATENCY_MIN_US and not state.disabled]
    if not deep:
        return
    deepest = max(deep, key=lambda state: state.latency_us)
    size = f"down to {deepest.name}, {deepest.latency_us} us to wake up from"
    if after is not None:
        names = {state.name for state in deep}
        entered = [sum(state.entered for state in each.idle if state.name in names) for each in (before, after)]
        size += f", entered {entered[1] - entered[0]} times"
    why = "a core that slept is slow at first: woken late, its caches cold"
    yield Finding("C-states", size, why, f"sudo cpupower idle-set -D {_LATENCY_MIN_US - 1}, or boot with idle=poll")


def _shared_core(before: Snapshot, after: Snapshot | None) -> Iterable[Finding]:
    if not before.siblings:
        return
    names = f"{_cpus(before.cpus)} shares a core with {_cpus(before.siblings)}"
    why = "two threads of a core take execution units and caches from each other"
    fix = "echo off | sudo tee /sys/devices/system/cpu/smt/control"
    if after is None:
        yield Finding("SMT sibling", names, why, fix)
    elif (share := _share(before, after, before.siblings, _busy)) and share >= _SHARE_MIN:
        yield Finding("busy SMT sibling", f"{names}, busy {share:.0%} of the time", why, fix)


def _neighbours(before: Snapshot, after: Snapshot) -> Iterable[Finding]:
    where = _cpus(before.cpus)
    busy = _share(before, after, before.cpus, _busy)
    if busy is not None and before.own_ticks is not None and after.own_ticks is not None:
        others = busy - (after.own_ticks - before.own_ticks) / TICKS_PER_S / _elapsed(before, after)
        if others >= _SHARE_MIN:
            why = "what runs there between two samples takes the caches, and what runs in one takes its time"
            fix = "stop it, or keep it off: boot with isolcpus=N, and choose that CPU with --cpu N"
            yield Finding("other work", f"{where} did that of others {others:.0%} of the time", why, fix)
    steal = _share(before, after, before.cpus, lambda load: load.steal)
    if steal is not None and steal >= _SHARE_MIN:
        why = "the hypervisor below gave the CPU to somebody else, and the TSC went on"
        yield Finding("steal time", f"{steal:.0%} of {where}", why, "use a machine without a hypervisor below")


def _thread(before: Snapshot, after: Snapshot) -> Iterable[Finding]:
    moved = _gained(before.migrations, after.migrations)
    if moved > (0 if len(before.cpus) > 1 else 1):  # being pinned may take one
        why = "the thread's working set, and the VMCS, go to another CPU's caches"
        yield Finding("migrations", f"{moved} times to another CPU", why, "leave --cpu any away, or name one: --cpu N")
    if preempted := _gained(before.preemptions, after.preemptions):
        why = "a sample that is interrupted so holds the time of something else"
        fix = "stop what else runs on that CPU, or choose another with --cpu N"
        yield Finding("preemption", f"the thread was taken off its CPU {preempted} times", why, fix)


def _interrupts(before: Snapshot, after: Snapshot) -> Iterable[Finding]:
    seconds = _elapsed(before, after)
    rates = {name: (count - before.interrupts.get(name, 0)) / seconds for name, count in after.interrupts.items()}
    total = sum(rates.values())
    if total >= _INTERRUPTS_MIN:
        largest = sorted((name for name in rates if rates[name] >= 1), key=lambda name: -rates[name])
        size = f"{total:,.0f} a second on {_cpus(before.cpus)}: {_some([f'{n} {rates[n]:,.0f}' for n in largest])}"
        why = "each is a VM exit, and the time of its handler"
        yield Finding("interrupts", size, why, "boot with nohz_full=N and irqaffinity= of the other CPUs")


def quietest(allowed: Sequence[int], before: Snapshot, after: Snapshot, root: str = "/") -> int:
    """The CPU that had the least to do between two snapshots, the other threads of its core included.

    Of several the last one: interrupts go to the first unless somebody says otherwise.

    Args:
        allowed: those to choose from.
        before, after: at least some ticks apart.
        root: see :func:`snapshot`.
    """
    sysfs = Sysfs(root)

    def key(cpu: int) -> tuple[float, int]:
        core = cpu_list(sysfs.text(f"cpu{cpu}/topology/thread_siblings_list")) or (cpu,)
        return _share(before, after, core, _busy) or 0.0, -cpu

    return min(allowed, key=key)


def _busy(load: Load) -> int:
    return load.busy


def _share(before: Snapshot, after: Snapshot, cpus: Iterable[int], what: Callable[[Load], int]) -> float | None:
    """The part of the time that some CPUs spent so, all together: more than 1 is more than one CPU; None if unknown."""
    known = [cpu for cpu in cpus if cpu in before.loads and cpu in after.loads]
    if not known:
        return None
    ticks = sum(what(after.loads[cpu]) - what(before.loads[cpu]) for cpu in known)
    return ticks / TICKS_PER_S / _elapsed(before, after)


def _elapsed(before: Snapshot, after: Snapshot) -> float:
    return max(after.seconds - before.seconds, 1 / TICKS_PER_S)


def _gained(before: int | None, after: int | None) -> int:
    return 0 if before is None or after is None else after - before


def _cpus(cpus: Sequence[int]) -> str:
    return f"CPU {cpus[0]}" if len(cpus) == 1 else f"CPUs {', '.join(map(str, cpus))}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{', '.join(names[:_LISTED])}{more}"
