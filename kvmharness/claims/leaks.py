"""Whether a variant leaves memory behind: what the kernel holds after it was unloaded, against what it held before."""

from collections.abc import Iterable, Iterator, Sequence

from kvmharness.claims.findings import Finding
from kvmharness.results.incidents import Leftover
from kvmharness.results.verdict import Outcome

PER_VM = 2048  # bytes, half a page: a leak of a page a VM is seen, a smaller one is not
# One load borrows what another one gives back, up to 140 KiB. So loads of few VMs say nothing, the others are held
# against a load of as many VMs without the series, and a leak is what each of them shows.
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
    usual = {each.vms: each.total for each in sorted(found.get(base, []), key=lambda each: each.total)}
    for variant in variants:
        loads = [(each.total - usual.get(each.vms, 0), each) for each in found.get(variant, [])]
        more, load = min(loads, key=lambda pair: pair[0] / pair[1].vms, default=(0, None))
        if load is None:
            why = f"not loaded behind another one, for {FEWEST} VMs or more, in an emulated host"
            yield Finding(Outcome.SKIPPED, "", f"{variant}: {why}", variant)
            continue
        if more <= _room(load):
            less = f"{variant}: less than {_room(load) / 1024:.0f} KiB left of {load.vms} VMs"
            yield Finding(Outcome.PASS, "", less, variant)
            continue
        place = max(load.memory, key=lambda name: load.memory[name])
        line = f"{variant}: {more / 1024:.0f} KiB left of {load.vms} VMs, most of it in {place}"
        yield Finding(Outcome.FAIL, "", line, variant)


def _room(load: Leftover) -> int:
    return max(ROOM, PER_VM * load.vms)
