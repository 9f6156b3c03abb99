"""What a guest reports when it gives up, as typed errors with the facts decoded."""

from collections.abc import Callable

from kvmharness.errors import GuestError
from kvmharness.guest.layout import Error, Mailbox
from kvmharness.guest.stops import GuestFailedError, word
from kvmharness.vendors.vendor import L2Exit, Vendor
from kvmharness.x86.exceptions import WITH_ERROR_CODE, Vector


class GuestFailure(GuestError):
    """A guest rang the FAIL doorbell.

    Attributes:
        code: why.
        round_trip: how many round trips it had made since its start.
    """

    def __init__(self, code: Error, round_trip: int, text: str, hint: str = "") -> None:
        super().__init__(f"{text} (round trip {round_trip})", hint)
        self.code, self.round_trip = code, round_trip


class StaleTranslation(GuestFailure):
    """A level read through tables that it had left: the kernel under test is wrong.

    Attributes:
        level: 1 or 2.
        expected, seen: tags, see :mod:`kvmharness.guest.spaces`.
    """

    def __init__(self, level: int, round_trip: int, expected: int, seen: int) -> None:
        code = Error.STALE_L1 if level == 1 else Error.STALE_L2
        text = f"stale translation: L{level} read tag {seen:#x} where its CR3 maps tag {expected:#x}"
        super().__init__(code, round_trip, text)
        self.level, self.expected, self.seen = level, expected, seen


class EntryRefused(GuestFailure):
    """VMLAUNCH or VMRESUME ended in VMfail, VM entry failed on L2's state, or VMRUN refused its VMCB.

    Attributes:
        instruction_error: number of the VM-instruction error, or 0.
        exit_reason: with bit 31 set where the entry failed late, or 0.
        exit_qualification: goes with the exit reason.
    """

    instruction_error = 0
    exit_reason = 0
    exit_qualification = 0


class UnexpectedL2Exit(GuestFailure):
    """L2 left for another reason than its hypercall.

    Attributes:
        exit_reason, exit_qualification: raw.
    """

    exit_reason = 0
    exit_qualification = 0


class GuestException(GuestFailure):
    """L1 took an exception.

    Attributes:
        vector: its number.
        rip: where.
    """

    vector = 0
    rip = 0


def explain(failed: GuestFailedError, vendor: Vendor | None) -> GuestError:
    """The error that a failed guest's mailbox tells of.

    Args:
        failed: with the mailbox.
        vendor: whose virtualization L1 uses; None where L1 is alone.
    """

    def read(offset: Mailbox) -> int:
        return word(failed.mailbox, offset)

    number, round_trip = read(Mailbox.ERROR), read(Mailbox.ERROR_ROUND_TRIP)
    try:
        code = Error(number)
    except ValueError:
        return GuestError(f"the guest failed with the unknown code {number:#x}", "Is its mailbox overwritten?")
    match code:
        case Error.STALE_L1 | Error.STALE_L2:
            level = 1 if code == Error.STALE_L1 else 2
            return StaleTranslation(level, round_trip, read(Mailbox.EXPECTED), read(Mailbox.SEEN))
        case Error.UNEXPECTED_EXIT if vendor is not None:
            return _unexpected_exit(vendor, read, round_trip)
        case Error.EXCEPTION:
            return _exception(read, round_trip)
        case _:
            return _refused(code, read, round_trip)


def _refused(code: Error, read: Callable[[Mailbox], int], round_trip: int) -> GuestFailure:
    from kvmharness.x86.vmx_exits import describe_vm_instruction_error

    number = read(Mailbox.INSTRUCTION_ERROR)
    why = describe_vm_instruction_error(number) if number else "VMfailInvalid, so there is no error number"
    match code:
        case Error.ENTRY_REFUSED:
            error = EntryRefused(code, round_trip, f"L1's VM entry was refused: {why}")
            error.instruction_error = number
            return error
        case Error.VMWRITE_FAILED:
            field = _field_name(read(Mailbox.SEEN))
            return GuestFailure(code, round_trip, f"L1's VMWRITE of {field} failed: {why}")
        case Error.INVEPT_FAILED:
            return GuestFailure(code, round_trip, f"L1's INVEPT failed: {why}")
        case _:
            instruction = code.name.removesuffix("_FAILED")
            return GuestFailure(code, round_trip, f"L1's {instruction} failed")


def _field_name(encoding: int) -> str:
    from kvmharness.x86.vmcs import Field

    try:
        return Field(encoding).name
    except ValueError:
        return f"field {encoding:#x}"


def _unexpected_exit(vendor: Vendor, read: Callable[[Mailbox], int], round_trip: int) -> GuestFailure:
    reason, qualification, rip = read(Mailbox.EXIT_REASON), read(Mailbox.EXIT_QUALIFICATION), read(Mailbox.GUEST_RIP)
    found = L2Exit(reason, qualification, read(Mailbox.EXIT_INFO2), read(Mailbox.INTERRUPTION_INFO), rip)
    was_refused, what = vendor.describe(found)
    error: EntryRefused | UnexpectedL2Exit
    if was_refused:
        error = EntryRefused(Error.UNEXPECTED_EXIT, round_trip, f"L1's {what}")
    else:
        text = f"L2 left at {rip:#x} for another reason than its hypercall: {what}"
        error = UnexpectedL2Exit(Error.UNEXPECTED_EXIT, round_trip, text)
    error.exit_reason, error.exit_qualification = reason, qualification
    return error


def _exception(read: Callable[[Mailbox], int], round_trip: int) -> GuestFailure:
    vector, first, second = read(Mailbox.VECTOR), read(Mailbox.STACK), read(Mailbox.STACK_SECOND)
    with_code = vector in WITH_ERROR_CODE
    rip = second if with_code else first
    text = f"L1 took exception {vector} at {rip:#x}"
    if with_code:
        text += f", error code {first:#x}"
    if vector == Vector.PF:
        text += f", CR2 {read(Mailbox.CR2):#x}"
    error = GuestException(Error.EXCEPTION, round_trip, text)
    error.vector, error.rip = vector, rip
    return error
