"""Where everything lies in a guest's memory, and the words that host and guest exchange.

One memslot at gpa 0 holds it all. Guests know these addresses by name: :mod:`kvmharness.guest.names` hands every name
of this file to the assembler, so a number is written once.
"""

from enum import IntEnum, IntFlag

PAGE_BYTES = 0x1000
MEMORY_BYTES = 0x400000


class Place(IntEnum):
    """Guest physical addresses. L1 and L2 see them at the same virtual address in every root."""

    DESCRIPTORS = 0x1000  # GDT, TSS, IDT of L1; TSSs of further vCPUs; stacks of exceptions at the page's end
    FAULTS = 0x1400  # what exceptions of a test's own program lead to
    MAILBOX = 0x2000  # parameters in, first error out: class Mailbox
    STACK_TOP = 0x4000  # of L1; grows down into the page below
    # 0x5000 to 0x7fff and 0x9000 to 0xcfff are the vendor's, for its L1: see kvmharness.vendors
    REAL_MODE_CODE = 0x8000
    L2_DESCRIPTORS = 0xD000  # IDT of an L2 that has one of its own
    L2_STACK_TOP = 0xF000  # of an L2 that calls a test's code; grows down into the page below
    L1_CODE = 0x10000
    L2_CODE = 0x20000
    TEST_CODE = 0x28000  # of a program that stands in a test, alone or as L2; as L2 it ends before the rows
    ROWS = 0x30000  # the operand rows: class Row
    SAMPLES = 0x80000  # one u64 a batch
    TABLES = 0x100000  # page tables, EPT tables and tagged pages, one after the other
    L2_PROBE = 0x200000  # where L2's tables point for the probe; each EPT maps it to pages of its own


# Both levels read their probe here: a 512 GiB slot of its own, so that the identity map below is shared by all roots.
PROBE_GVA = 0x80_0000_0000
USER_GVA = PROBE_GVA + 0x40_0000  # where code at CPL 3 finds the first page of its level's program

# A test's own program finds these 2 MiB mapped, and no memslot behind them: each access is an MMIO exit.
HOLE = MEMORY_BYTES

ROWS_MAX = (Place.SAMPLES - Place.ROWS) // 64
SAMPLES_MAX = (Place.TABLES - Place.SAMPLES) // 8


class Mailbox(IntEnum):
    """Byte offsets of the 8-byte words in the mailbox page."""

    FLAGS = 0x00  # class Flag
    BATCHES = 0x08  # of this phase; 0 ends the guest
    BATCH_ROUND_TRIPS = 0x10
    ROWS_END = 0x18  # gpa behind the last row
    ROUND_TRIPS = 0x20  # out: round trips since the guest started, all phases
    OPERAND = 0x28  # scratch: the memory operand of VMXON, VMCLEAR and VMPTRLD
    ERROR = 0x40  # out: class Error; the words below say more
    ERROR_ROUND_TRIP = 0x48
    EXPECTED = 0x50
    SEEN = 0x58
    ROW_GPA = 0x60
    EXIT_REASON = 0x68
    EXIT_QUALIFICATION = 0x70
    INSTRUCTION_ERROR = 0x78
    INTERRUPTION_INFO = 0x80
    GUEST_RIP = 0x88
    VECTOR = 0x90
    STACK = 0x98  # of an exception: the error code, or RIP where the vector has none
    STACK_SECOND = 0xA0  # RIP, or CS
    CR2 = 0xA8
    EXIT_INFO2 = 0xB0  # on SVM, whose EXITINFO1 is the qualification
    L1_ROW = 0xB8  # scratch: the row at which L1 stands while L2 runs
    LAUNCHED = 0xC0  # scratch: not 0 once VMLAUNCH has succeeded


class Row(IntEnum):
    """Byte offsets of the operands of one round trip. Rotations are rows in memory; the code is always the same."""

    HOST_CR3 = 0x00  # L1 alone: the CR3 to move
    GUEST_CR3 = 0x08
    EPTP = 0x10
    L2_CR3 = 0x18  # what L2 moves to CR3 itself, when told so
    HOST_TAG = 0x20  # what L1 must read at PROBE_GVA under HOST_CR3
    GUEST_TAG = 0x28  # what L2 must read there
    ACTIONS = 0x30  # class Action
    BYTES = 0x40


class Act(IntEnum):
    """Byte offsets in a row of a litmus test: what is to be done, then what came of it."""

    CODE = 0x00  # gpa of the code that does it
    A = 0x08
    B = 0x10
    C = 0x18
    VALUE = 0x20  # out, as STATUS says
    STATUS = 0x28  # out: class Status; 0 until the row is done
    DETAIL = 0x30
    ADDRESS = 0x38
    BYTES = 0x40


class Status(IntEnum):
    """What came of a row; an exception has its vector in the low byte."""

    DONE = 0x100  # VALUE: what was read
    EXCEPTION = 0x200  # DETAIL: error code, or RIP where the vector has none; ADDRESS: CR2
    REFUSED = 0x400  # an instruction of VMX failed; VALUE: the VM-instruction error
    EXIT = 0x800  # of L2; VALUE: reason, DETAIL: qualification or EXITINFO1, ADDRESS: gpa or EXITINFO2


class Flag(IntFlag):
    """What every round trip of a phase does besides the operands that it always writes."""

    WRITE_EPTP = 1
    L2_MOVES_CR3 = 2


class Action(IntFlag):
    """What a single row does before its VM entry."""

    INVEPT = 1


class Port(IntEnum):
    """I/O ports, all below 0x100 so that OUT takes them as an immediate."""

    DOORBELL = 0x4B  # class Doorbell, 4 bytes
    CONSOLE = 0x4C  # one character
    TICK = 0x4D  # counted by the run loop, never shown to Python
    FAULT = 0x4E  # of an exception's handler at FAULTS


class Doorbell(IntEnum):
    """What a guest tells its host, in EAX."""

    READY = 1  # set up; the mailbox is read at the next BEGIN
    BEGIN = 2  # a phase starts when the host returns
    END = 3  # and is over
    FAIL = 4  # the mailbox says why
    DONE = 5  # BATCHES was 0


class Error(IntEnum):
    """Why a guest gave up."""

    VMXON_FAILED = 1
    VMCLEAR_FAILED = 2
    VMPTRLD_FAILED = 3
    VMWRITE_FAILED = 4
    ENTRY_REFUSED = 5  # VMLAUNCH or VMRESUME ended in VMfail
    INVEPT_FAILED = 6
    UNEXPECTED_EXIT = 7  # VM entry was refused late, or L2 left for another reason than its hypercall
    STALE_L1 = 8  # L1 read another tag than its new CR3 maps
    STALE_L2 = 9
    EXCEPTION = 10  # in L1


def symbols() -> dict[str, int]:
    """The names of this file, for guest sources."""
    names = {"PROBE_GVA": PROBE_GVA, "USER_GVA": USER_GVA, "MEMORY_BYTES": MEMORY_BYTES, "HOLE": HOLE}
    names |= {place.name: place.value for place in Place}
    for prefix, members in (
        ("MAIL", Mailbox),
        ("ROW", Row),
        ("ACT", Act),
        ("STATUS", Status),
        ("FLAG", Flag),
        ("ACTION", Action),
        ("PORT", Port),
        ("DOORBELL", Doorbell),
        ("ERROR", Error),
    ):
        names |= {f"{prefix}_{member.name}": int(member) for member in members}
    return names
