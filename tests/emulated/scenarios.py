"""What nested guests are made to do wrong inside an emulated host. Loaded in there: it imports the package alone.

Each scenario builds a cell's guest, spoils one thing, and answers what came of it as plain data.
"""

import struct
from collections.abc import Callable
from contextlib import contextmanager

from kvmharness.cells.cell import Cell, Setup
from kvmharness.cells.guest import cell_guest
from kvmharness.errors import KvmHarnessError
from kvmharness.guest import spaces
from kvmharness.guest.layout import VMCS_TABLE_END, Place, Row
from kvmharness.guest.shipped import unpack
from kvmharness.kvm.system import Kvm

BEYOND_PHYSICAL = 1 << 51  # a bit of CR3 above what these processors can address

# SDM vol. 3D, appendix "Field Encoding in VMCS".
EXCEPTION_BITMAP, GUEST_IDTR_LIMIT, VMCS_LINK_POINTER, PIN_CONTROLS = 0x4004, 0x4812, 0x2800, 0x4000

_FACTS = ("round_trip", "level", "expected", "seen", "instruction_error", "exit_reason", "exit_qualification", "vector")


class Spoiled:
    """A guest of a cell, and its memory to spoil."""

    def __init__(self, guest):
        self.session, self.flags = guest.session, guest.flags
        self.memory = guest.vm.memory[0]

    def row(self, number: int, word: Row, change: Callable[[int], int]) -> None:
        gpa = Place.ROWS + number * Row.BYTES + word
        self.memory.write_u64(gpa, change(self.memory.read_u64(gpa)))

    def field(self, encoding: int, value: int) -> None:
        """Changes one row of the table that L1 copies into its VMCS."""
        gpa = int(Place.VMCS_TABLE)
        while (found := struct.unpack("<I", self.memory.read(gpa, 4))[0]) != encoding:
            if found == VMCS_TABLE_END:
                raise ValueError(f"field {encoding:#x} is not in the table")
            gpa += 16
        self.memory.write_u64(gpa + 8, value)

    def failure(self, round_trips: int = 6) -> dict:
        """Runs, and answers the error as data."""
        try:
            self.session.phase(1, round_trips, self.flags)
        except KvmHarnessError as e:
            facts = {name: getattr(e, name) for name in _FACTS if hasattr(e, name)}
            return {"type": type(e).__name__, "message": str(e), **facts}
        return {"type": None, "round_trips": self.session.round_trips}


@contextmanager
def spoiled(kvm, cell):
    with cell_guest(kvm, cell, timeout_s=20) as guest:
        yield Spoiled(guest)


THREE = Cell(Setup.NO_EPT, 3, 3, vpid=False)


def good(kvm):
    """Nothing is spoiled: the other scenarios would mean nothing if this one failed."""
    with spoiled(kvm, THREE) as guest:
        return guest.failure()


def bad_guest_cr3(kvm):
    with spoiled(kvm, THREE) as guest:
        guest.row(2, Row.GUEST_CR3, lambda cr3: cr3 | BEYOND_PHYSICAL)
        return guest.failure()


def bad_guest_cr3_at_the_first_entry(kvm):
    with spoiled(kvm, THREE) as guest:
        guest.row(0, Row.GUEST_CR3, lambda cr3: cr3 | BEYOND_PHYSICAL)
        return guest.failure()


def bad_host_cr3(kvm):
    with spoiled(kvm, THREE) as guest:
        guest.row(1, Row.HOST_CR3, lambda cr3: cr3 | BEYOND_PHYSICAL)
        return guest.failure()


def bad_control(kvm):
    with spoiled(kvm, THREE) as guest:
        guest.field(PIN_CONTROLS, 0)
        return guest.failure()


def bad_link_pointer(kvm):
    with spoiled(kvm, THREE) as guest:
        guest.field(VMCS_LINK_POINTER, 0x1001)
        return guest.failure()


def triple_fault_of_l2(kvm):
    with spoiled(kvm, THREE) as guest:
        guest.field(EXCEPTION_BITMAP, 0)
        guest.field(GUEST_IDTR_LIMIT, 0)
        guest.memory.write(Place.L2_CODE, b"\x0f\x0b")  # ud2
        return guest.failure()


def exception_of_l2(kvm):
    with spoiled(kvm, THREE) as guest:
        guest.memory.write(Place.L2_CODE, b"\x0f\x0b")
        return guest.failure()


def another_instruction_of_l2(kvm):
    with spoiled(kvm, THREE) as guest:
        guest.memory.write(Place.L2_CODE, b"\x0f\xa2")  # cpuid
        return guest.failure()


def stale_in_l2(kvm):
    with spoiled(kvm, THREE) as guest:
        guest.row(1, Row.GUEST_TAG, lambda tag: spaces.guest_tag(7))
        return guest.failure()


def stale_in_l1(kvm):
    with spoiled(kvm, THREE) as guest:
        guest.row(2, Row.HOST_TAG, lambda tag: spaces.host_tag(7))
        return guest.failure()


def stale_through_an_ept(kvm):
    """L1 edits what an EPT maps, and never says INVEPT: the row expects the page of before."""
    with spoiled(kvm, Cell(Setup.EPTPS, eptps=2, vpid=False)) as guest:
        guest.row(1, Row.GUEST_TAG, lambda tag: spaces.guest_tag(0, 0))
        return guest.failure()


def exception_in_l1_while_l2_is_there(kvm):
    """HOST_RIP points to an instruction that faults: the handlers are those of L1."""
    with spoiled(kvm, THREE) as guest:
        guest.field(0x6C16, 0x7000_0000)
        return guest.failure()


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        good,
        bad_guest_cr3,
        bad_guest_cr3_at_the_first_entry,
        bad_host_cr3,
        bad_control,
        bad_link_pointer,
        triple_fault_of_l2,
        exception_of_l2,
        another_instruction_of_l2,
        stale_in_l2,
        stale_in_l1,
        stale_through_an_ept,
        exception_in_l1_while_l2_is_there,
    )
}


def run(emit, images):
    """The job's step: every scenario, each in a VM of its own."""
    unpack(images)
    with Kvm.open() as kvm:
        for name, scenario in SCENARIOS.items():
            emit({"scenario": name, "outcome": scenario(kvm)})
