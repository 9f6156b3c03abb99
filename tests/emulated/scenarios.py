"""What nested guests are made to do wrong in an emulated host: each a cell whose blueprint has one thing spoiled."""

from collections.abc import Callable

from kvmharness.cells.cell import Cell, Setup
from kvmharness.cells.judge import Raw
from kvmharness.cells.passes import Plan
from kvmharness.cells.plan import Planned, plan
from kvmharness.guest import spaces
from kvmharness.guest.failures import explain
from kvmharness.guest.layout import Place, Row
from kvmharness.guest.stops import GuestFailedError
from kvmharness.kvm.capabilities import Capabilities
from tests.spoiling import with_field, with_row, written

BEYOND_PHYSICAL = 1 << 51  # a bit of CR3 above what these processors can address

# SDM vol. 3D, appendix "Field Encoding in VMCS".
EXCEPTION_BITMAP, GUEST_IDTR_LIMIT, VMCS_LINK_POINTER, PIN_CONTROLS, HOST_RIP = 0x4004, 0x4812, 0x2800, 0x4000, 0x6C16

LENGTHS = Plan(warmup=6, round_trips=6, batches=1, batch_round_trips=6, timeout_s=20)
THREE = Cell(Setup.NO_EPT, 3, 3, vpid=False)
TWO_EPTS = Cell(Setup.EPTPS, eptps=2, vpid=False)

_FACTS = ("round_trip", "level", "expected", "seen", "instruction_error", "exit_reason", "exit_qualification", "vector")

UD2, CPUID = b"\x0f\x0b", b"\x0f\xa2"


def triple_fault_of_l2(planned: Planned) -> Planned:
    without_handlers = with_field(with_field(planned, EXCEPTION_BITMAP, 0), GUEST_IDTR_LIMIT, 0)
    return written(without_handlers, Place.L2_CODE, UD2)


Spoil = Callable[[Planned], Planned]

SCENARIOS: dict[str, tuple[Cell, Spoil]] = {
    # Nothing is spoiled: the other scenarios would mean nothing if this one failed.
    "good": (THREE, lambda p: p),
    "bad_guest_cr3": (THREE, lambda p: with_row(p, 2, Row.GUEST_CR3, lambda cr3: cr3 | BEYOND_PHYSICAL)),
    "bad_guest_cr3_at_the_first_entry": (
        THREE,
        lambda p: with_row(p, 0, Row.GUEST_CR3, lambda cr3: cr3 | BEYOND_PHYSICAL),
    ),
    "bad_host_cr3": (THREE, lambda p: with_row(p, 1, Row.HOST_CR3, lambda cr3: cr3 | BEYOND_PHYSICAL)),
    "bad_control": (THREE, lambda p: with_field(p, PIN_CONTROLS, 0)),
    "bad_link_pointer": (THREE, lambda p: with_field(p, VMCS_LINK_POINTER, 0x1001)),
    "triple_fault_of_l2": (THREE, triple_fault_of_l2),
    "exception_of_l2": (THREE, lambda p: written(p, Place.L2_CODE, UD2)),
    "another_instruction_of_l2": (THREE, lambda p: written(p, Place.L2_CODE, CPUID)),
    "stale_in_l2": (THREE, lambda p: with_row(p, 1, Row.GUEST_TAG, lambda tag: spaces.guest_tag(7))),
    "stale_in_l1": (THREE, lambda p: with_row(p, 2, Row.HOST_TAG, lambda tag: spaces.host_tag(7))),
    # L1 edits what an EPT maps, and never says INVEPT: the row expects the page of before.
    "stale_through_an_ept": (TWO_EPTS, lambda p: with_row(p, 1, Row.GUEST_TAG, lambda tag: spaces.guest_tag(0, 0))),
    # HOST_RIP points to an instruction that faults: the handlers are those of L1.
    "exception_in_l1_while_l2_is_there": (THREE, lambda p: with_field(p, HOST_RIP, 0x7000_0000)),
}


def planned(offered: Capabilities) -> dict[str, Planned]:
    """Every scenario, ready to be run on a KVM that offers this."""
    return {name: spoil(plan(cell, offered, LENGTHS)) for name, (cell, spoil) in SCENARIOS.items()}


def outcome(scenario: Planned, raw: Raw) -> dict[str, object]:
    """What came of one, as plain data."""
    if not raw.mailbox:
        return {"type": raw.error.type if raw.error else None, "message": raw.error.message if raw.error else ""}
    error = explain(GuestFailedError(raw.mailbox), scenario.vendor)
    facts = {name: getattr(error, name) for name in _FACTS if hasattr(error, name)}
    return {"type": type(error).__name__, "message": str(error), **facts}
