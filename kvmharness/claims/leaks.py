"""Whether a variant leaves memory behind: what the kernel holds after it was unloaded, against what it held before."""

from collections.abc import Iterable, Iterator, Sequence

from kvmharness.claims.findings import Finding
from kvmharness.results.incidents import Leftover
from kvmharness.results.verdict import Outcome

PER_VM = 2048  # bytes, half a page: a leak of a page a VM is seen, a smaller one is not
# One load borrows what another one gives back: 40 KiB were seen under VMX, and 130 under SVM, where few VMs ran. So
# loads of few VMs say nothing, and a leak is what every other load of a variant shows.
ROOM = 65536
FEWEST = 16


def leaks(leftovers: Iterable[Leftover], base: str, variants: Sequence[str]) -> Iterator[Finding]:
    """A finding for each variant.

    Args:
        leftovers: of the run.
        base: the kernel without the series; what it leaves behind is nobody's fault.
        variants: those that are judged.
    """
    found: dict[str, list[Leftover]] = {}
    for each in leftovers:
        if each.vms >= FEWEST:
            found.setdefault(each.variant, []).append(each)
    least = min(found.get(base, []), key=_rate, default=None)
    usual = _rate(least) if least and least.total > _room(least) else 0.0
    for variant in variants:
        load = min(found.get(variant, []), key=_rate, default=None)
        if load is None:
            why = f"not loaded behind another one, for {FEWEST} VMs or more, in an emulated host"
            yield Finding(Outcome.SKIPPED, "", f"{variant}: {why}", variant)
            continue
        more = load.total - usual * load.vms
        if more <= _room(load):
            less = f"{variant}: less than {_room(load) / 1024:.0f} KiB left of {load.vms} VMs"
            yield Finding(Outcome.PASS, "", less, variant)
            continue
        place = max(load.memory, key=lambda name: load.memory[name])
        line = f"{variant}: {more / 1024:.0f} KiB left of {load.vms} VMs, most of it in {place}"
        yield Finding(Outcome.FAIL, "", line, variant)


def _rate(load: Leftover) -> float:
    return load.total / load.vms


def _room(load: Leftover) -> int:
    return max(ROOM, PER_VM * load.vms)
