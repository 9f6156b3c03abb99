"""What a test asks of a host, as its rows say it, and what a host lacks of that."""

from collections.abc import Container, Iterator

from kvmharness.kvm.capabilities import Capabilities
from kvmharness.kvm.nested import offered_features
from kvmharness.litmus.program import Program, Row
from kvmharness.vendors.known import litmus_of
from kvmharness.vendors.litmus import WISHES, fulfilled
from kvmharness.vendors.vendor import Vendor
from kvmharness.x86.cpuid import Feature

_FEATURES = {
    "cr4.pcide": Feature.PCID,
    "cr4.smep": Feature.SMEP,
    "cr4.smap": Feature.SMAP,
    "efer.nxe": Feature.NX,
    "invpcid": Feature.INVPCID,
}
NESTING = "nesting"
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
    """What a host has, in words that :func:`lacks` and random programs go by.

    Args:
        vendor: whose virtualization it gives to guests, or None.
        offered: by its KVM.

    Returns:
        Names of features of its vCPUs; with a vendor NESTING, and the wishes that its virtualization fulfils.
    """
    features = offered_features(offered)
    there = frozenset(feature.name for feature in _FEATURES.values() if feature in features)
    return there | ({NESTING, *fulfilled(litmus_of(vendor), offered.msrs, features)} if vendor else frozenset())


def lacks(program: Program, there: Container[str]) -> str:
    """What a host does not have of what a test needs; empty where it has everything.

    Args:
        program: the test.
        there: what the host has, see :func:`offers`.
    """
    if program.nested and NESTING not in there:
        return "nested virtualization"
    missing = sorted(feature.name for feature in features(program) if feature.name not in there)
    missing += [WISHES[wish] for wish in sorted(wishes(program)) if wish not in there]
    return ", ".join(missing)
