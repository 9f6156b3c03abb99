"""Whether a variant leaves memory behind: what the kernel holds after it was unloaded, against what it held before."""

from collections.abc import Iterable, Iterator, Sequence

from kvmharness.claims.findings import Finding
from kvmharness.results.incidents import Leftover
from kvmharness.results.verdict import Outcome

PER_VM = 2048  # bytes, half a page: a leak of a page a VM is seen, a smaller one is not
ROOM = 65536  # bytes; twenty-six variants in one boot, few VMs each, left up to 40 KiB more or less by themselves


def leaks(leftovers: Iterable[Leftover], base: str, variants: Sequence[str]) -> Iterator[Finding]:
    """A finding for each variant, over all its loads together: what one of them borrows, the next one gives back.

    Args:
        leftovers: of the run.
        base: the kernel without the series; what it leaves behind is nobody's fault.
        variants: those that are judged.
    """
    found: dict[str, list[Leftover]] = {}
    for each in leftovers:
        found.setdefault(each.variant, []).append(each)
    without = found.get(base, [])
    usual = _bytes(without) / _vms(without) if _bytes(without) > _room(without) else 0.0
    for variant in variants:
        loads = found.get(variant, [])
        if not _vms(loads):
            why = "it was not loaded behind another one in an emulated host of its own"
            yield Finding(Outcome.SKIPPED, "", f"{variant}: memory was not looked at: {why}", variant)
            continue
        more = _bytes(loads) - usual * _vms(loads)
        if more <= _room(loads):
            less = f"{variant}: less than {_room(loads) / 1024:.0f} KiB left of {_vms(loads)} VMs"
            yield Finding(Outcome.PASS, "", less, variant)
            continue
        place = max({name for each in loads for name in each.memory}, key=lambda name: _bytes(loads, name))
        line = f"{variant}: {more / 1024:.0f} KiB left of {_vms(loads)} VMs, most of it in {place}"
        yield Finding(Outcome.FAIL, "", line, variant)


def _room(loads: Iterable[Leftover]) -> int:
    return max(ROOM, PER_VM * _vms(loads))


def _vms(loads: Iterable[Leftover]) -> int:
    return sum(each.vms for each in loads)


def _bytes(loads: Iterable[Leftover], name: str = "") -> int:
    return sum(each.memory.get(name, 0) if name else each.total for each in loads)
