"""Where each metric of a claim stands in a record. What a host did not offer is missing, with why; never zero."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kvmharness.results.compare import ASYNCHRONOUS
from kvmharness.results.record import CellResult

# Metric -> the counter of the counting pass that holds it.
COUNTERS = {
    "loads": "kvm_mmu_load",
    "switches": "kvm_mmu_new_pgd",
    "exits": "kvm_exit",
    "nested_vmexits": "kvm_nested_vmexit",
}
STATISTICS = ("nested_run", "tlb_flush")
EXITS = "exits."
_STAT = "stat."
# Figures that a cell has even if it failed.
SURVIVING = ("probe_failures", "dmesg", "errors")
_OTHERS = ("time", "probe_failures", "dmesg", "errors")
WORDS = {
    "loads": "root loads: calls of kvm_mmu_load(), the misses of the root cache",
    "switches": "root switches: calls of kvm_mmu_new_pgd()",
    "exits": "exits to L0, of any reason",
    "nested_vmexits": "exits of L2 that L0 gives to L1",
    "exits.<REASON>": "exits of one reason, such as exits.VMCALL",
    "exits.*": "each reason that the guest causes, by itself",
    "nested_run": "entries into L2, by KVM's statistics",
    "tlb_flush": "TLB flushes, by KVM's statistics",
    "stat.<NAME>": "any other of KVM's statistics, such as stat.pf_taken",
    "time": "guest TSC cycles, or instructions in an emulated host",
    "probe_failures": "stale reads: those that saw another table's page",
    "dmesg": "lines of the kernel's log that tell anything",
    "errors": "1 where the cell failed",
}
"""The vocabulary, with an example for each open-ended family -> what it counts."""


# What the kernel says whenever KVM's modules load, whichever variant they are.
_SAID_ALWAYS = (
    "module taints kernel",  # modules built outside the kernel's own build always do
    "VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL does not work properly",  # an erratum of Nehalem processors
    # What kvm_amd finds.
    "Nested Virtualization enabled",
    "Nested Paging enabled",
    "Nested Paging disabled",
    "PMU virtualization is disabled",
    "LBR virtualization supported",
    "Virtual GIF supported",
    "Virtual VMLOAD VMSAVE supported",
    "TSC scaling supported",
    "AVIC enabled",
    # The kernel has watched its clocks for long enough, which may fall into any step.
    "clocksource: tsc: mask",
    "Switched to clocksource tsc",
)


class Missing(NamedTuple):
    """A figure that the record does not have."""

    why: str


def metric_names() -> tuple[str, ...]:
    """The names of the vocabulary."""
    return tuple(WORDS)


def is_metric(name: str) -> bool:
    """Whether a claim may name it."""
    family = name.startswith((EXITS, _STAT)) and name.partition(".")[2]
    return bool(family) or name in COUNTERS or name in STATISTICS or name in _OTHERS


def expand(metric: str, results: Iterable[CellResult]) -> tuple[str, ...]:
    """``exits.*`` as one metric for each exit reason that any result has and that the guest caused; others as they are.

    What timers and neighbours cause differs between any two runs, so that nothing can be claimed of it.
    """
    if metric != EXITS + "*":
        return (metric,)
    reasons = {reason for result in results for reason in result.exits} - ASYNCHRONOUS
    return tuple(sorted(EXITS + reason for reason in reasons))


def value(metric: str, result: CellResult) -> int | Missing:
    """A metric's figure over the whole counting pass of a result."""
    if metric == "errors":
        return int(result.error is not None)
    if metric == "dmesg":
        return len(telling(result.dmesg))
    if metric == "probe_failures" and result.probes.failures:
        return result.probes.failures  # counts even if the cell ended in an error because of it
    if result.error is not None:
        return Missing(f"the cell failed ({result.error.type})")
    if metric == "probe_failures":
        return 0 if result.probes.checked else Missing("no probe was read")
    if metric.startswith(EXITS):
        reason = metric[len(EXITS) :]
        why = result.missing.get(reason) or result.missing.get(COUNTERS["exits"])
        # A record holds the reasons that happened; the others were looked for all the same.
        return Missing(why) if why else result.exits.get(reason, 0)
    if metric in COUNTERS:
        return _found(result.counts, COUNTERS[metric], result.missing)
    # Likewise, of KVM's statistics a record holds those that changed.
    return _found(result.stats, metric.removeprefix(_STAT), result.missing, zero=bool(result.stats))


def statistic(metric: str) -> str:
    """The name of KVM's statistic that a metric is; empty where it is none."""
    return metric.removeprefix(_STAT) if metric.startswith(_STAT) or metric in STATISTICS else ""


def telling(lines: Iterable[str]) -> list[str]:
    """The lines of a kernel log that tell anything about a variant."""
    return [line for line in lines if not any(phrase in line for phrase in _SAID_ALWAYS)]


_VOLATILE = re.compile(r"\b0x[0-9a-f]+\b|\b[0-9a-f]{4,}\b|\d+", re.ASCII)


def form(line: str) -> str:
    """A line of a kernel log without what differs each time: addresses, times and other numbers."""
    return _VOLATILE.sub("#", line)


def _found(figures: Mapping[str, int], name: str, missing: Mapping[str, str], *, zero: bool = False) -> int | Missing:
    if name in figures:
        return figures[name]
    return 0 if zero else Missing(missing.get(name, f"{name} was not recorded"))
