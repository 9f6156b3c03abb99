"""What a test asks of a host, as its rows say it, and what a host lacks of that."""

from collections.abc import Iterator

from kvmharness.abi.binding import ffi
from kvmharness.kvm.capabilities import Capabilities, cpuid_table
from kvmharness.litmus.program import Program, Row
from kvmharness.vendors.known import litmus_of
from kvmharness.vendors.litmus import WISHES, fulfilled
from kvmharness.vendors.vendor import Vendor
from kvmharness.x86.cpuid import CpuidBit, Feature

_FEATURES = {
    "cr4.pcide": Feature.PCID,
    "cr4.smep": Feature.SMEP,
    "cr4.smap": Feature.SMAP,
    "efer.nxe": Feature.NX,
    "invpcid": Feature.INVPCID,
}
_VERBS = {"invept": "invept", "invvpid": "invvpid", "invlpga": "invlpga", "vmfunc": "vmfunc", "esize": "large"}


def wishes(program: Program) -> set[str]:
    """What a test needs of the vendor's virtualization, by :data:`kvmharness.vendors.litmus.WISHES`."""
    found = {wish for row in program.rows for wish in _wishes(row)}
    return found | ({"cr3-kept"} if _saves_moved_cr3(program) else set())


def _saves_moved_cr3(program: Program) -> bool:
    """Nested state is saved while L2 is at a CR3 that it has moved to itself."""
    moved = False
    for row in program.rows:
        moved = (moved and row.who in ("L2", "host")) or (row.who == "L2" and row.verb == "cr3")
        if moved and row.verb in ("migrate", "nested"):
            return True
    return False


def _wishes(row: Row) -> Iterator[str]:
    if row.verb in _VERBS:
        yield _VERBS[row.verb]
    if row.verb == "invpcid" and row.who == "L2":
        yield "invpcid-l2"
    if row.verb == "enter":
        for operand, wish in (("nested", "nested"), ("ad", "accessed")):
            if row.get(operand):
                yield wish
        if row.get("tag", "0") != "0":
            yield "tag"
        if flush := row.get("flush"):
            yield "flush" if flush == "all" else "flush-asid"
        if row.get("bad") in ("host", "nested"):
            yield "refusals"


def features(program: Program) -> set[Feature]:
    """What it needs of the vCPU."""
    named = {row.get("bit") for row in program.rows} | {row.verb for row in program.rows}
    return {feature for name, feature in _FEATURES.items() if name in named}


def offers(vendor: Vendor | None, offered: Capabilities) -> frozenset[str]:
    """What a host has: wishes of the vendor's virtualization that it fulfils, and names of features of its vCPUs."""

    def has(feature: Feature) -> bool:
        return _cpuid(offered, feature.value)

    there = frozenset(feature.name for feature in _FEATURES.values() if has(feature))
    return there | (fulfilled(litmus_of(vendor), offered.msrs, has) if vendor else frozenset())


def lacks(program: Program, vendor: Vendor | None, offered: Capabilities) -> str:
    """What a host does not have of what a test needs; empty where it has everything.

    Args:
        program: the test.
        vendor: whose virtualization the host offers, or None.
        offered: by the host's KVM.
    """
    there = offers(vendor, offered)
    missing = sorted({feature.name for feature in features(program)} - there)
    if program.nested:
        if vendor is None:
            return "nested virtualization"
        missing += [WISHES[wish] for wish in sorted(wishes(program) - there)]
    return ", ".join(missing)


def _cpuid(offered: Capabilities, bit: CpuidBit) -> bool:
    table = cpuid_table(offered.cpuid)
    entries = ffi.cast("struct kvm_cpuid_entry2 *", table.entries)
    for number in range(table.nent):
        entry = entries[number]
        if entry.function == bit.leaf and entry.index == bit.subleaf:
            return bool(getattr(entry, bit.register) & bit.mask)
    return False
