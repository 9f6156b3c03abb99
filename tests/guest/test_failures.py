"""What a guest left in its mailbox, as an error with the facts decoded."""

import pytest

from kvmharness.errors import ExitCode, GuestError
from kvmharness.guest.failures import (
    EntryRefused,
    GuestException,
    StaleTranslation,
    UnexpectedL2Exit,
    explain,
)
from kvmharness.guest.layout import Error, Mailbox
from kvmharness.guest.stops import GuestFailedError, UnexpectedExit
from kvmharness.kvm.exits import HltExit, MmioExit
from kvmharness.vendors.known import named


def failure(code: int, vendor: str = "vmx", **words: int):
    mailbox = bytearray(0x100)
    for name, value in {"ERROR": code, "ERROR_ROUND_TRIP": 17, **words}.items():
        mailbox[Mailbox[name] : Mailbox[name] + 8] = value.to_bytes(8, "little")
    return explain(GuestFailedError(bytes(mailbox)), named(vendor))


@pytest.mark.parametrize(("code", "level"), [(Error.STALE_L1, 1), (Error.STALE_L2, 2)])
def test_stale_translation(code, level):
    error = failure(code, EXPECTED=0x4C31_0000_0000_0002, SEEN=0x4C31_0000_0000_0001)
    assert isinstance(error, StaleTranslation)
    assert (error.level, error.round_trip, error.code) == (level, 17, code)
    assert (error.expected, error.seen) == (0x4C31_0000_0000_0002, 0x4C31_0000_0000_0001)
    assert f"L{level} read tag 0x4c31000000000001" in str(error)
    assert "round trip 17" in str(error)
    assert error.exit_code == ExitCode.FAIL


def test_entry_refused_with_an_error_number():
    error = failure(Error.ENTRY_REFUSED, INSTRUCTION_ERROR=8)
    assert isinstance(error, EntryRefused)
    assert error.instruction_error == 8
    assert "VM-instruction error 8, ENTRY_INVALID_HOST_STATE_FIELD" in str(error)


def test_entry_refused_without_a_current_vmcs():
    assert "VMfailInvalid" in str(failure(Error.ENTRY_REFUSED))


def test_entry_that_failed_on_the_guests_state():
    error = failure(Error.UNEXPECTED_EXIT, EXIT_REASON=0x8000_0021, EXIT_QUALIFICATION=4)
    assert isinstance(error, EntryRefused)
    assert (error.exit_reason, error.exit_qualification, error.instruction_error) == (0x8000_0021, 4, 0)
    assert "VM entry failed: invalid guest state (VMCS link pointer)" in str(error)


def test_another_exit_of_l2():
    error = failure(Error.UNEXPECTED_EXIT, EXIT_REASON=0, GUEST_RIP=0x2000A, INTERRUPTION_INFO=0x8000_0B0E)
    assert isinstance(error, UnexpectedL2Exit)
    assert "0x2000a" in str(error)
    assert "EXCEPTION_NMI" in str(error)
    assert "vector 14" in str(error)


def test_vmrun_that_refused_the_vmcb():
    error = failure(Error.UNEXPECTED_EXIT, "svm", EXIT_REASON=(1 << 64) - 1)
    assert isinstance(error, EntryRefused)
    assert "L1's VMRUN refused the VMCB" in str(error)


def test_another_exit_of_l2_on_svm():
    words = {"EXIT_REASON": 0x400, "EXIT_QUALIFICATION": 4, "EXIT_INFO2": 0x5000, "GUEST_RIP": 0x2000A}
    error = failure(Error.UNEXPECTED_EXIT, "svm", **words)
    assert isinstance(error, UnexpectedL2Exit)
    assert (error.exit_reason, error.exit_qualification) == (0x400, 4)
    assert "L2 left at 0x2000a" in str(error)
    assert "NPF (0x400): error code 0x4, gpa 0x5000" in str(error)


def test_triple_fault_of_l2():
    error = failure(Error.UNEXPECTED_EXIT, EXIT_REASON=2)
    assert isinstance(error, UnexpectedL2Exit)
    assert error.exit_reason == 2
    assert "TRIPLE_FAULT" in str(error)
    assert "vector" not in str(error)


def test_exception_with_an_error_code():
    error = failure(Error.EXCEPTION, VECTOR=14, STACK=2, STACK_SECOND=0x10020, CR2=0x1234_5000)
    assert isinstance(error, GuestException)
    assert (error.vector, error.rip) == (14, 0x10020)
    assert "exception 14 at 0x10020, error code 0x2, CR2 0x12345000" in str(error)


def test_exception_without_one():
    error = failure(Error.EXCEPTION, VECTOR=6, STACK=0x10020, STACK_SECOND=8)
    assert (error.vector, error.rip) == (6, 0x10020)
    assert "exception 6 at 0x10020 (round trip 17)" in str(error)


@pytest.mark.parametrize(
    ("code", "words", "text"),
    [
        (Error.VMWRITE_FAILED, {"SEEN": 0x6C02, "INSTRUCTION_ERROR": 12}, "VMWRITE of HOST_CR3 failed: VM-instruct"),
        (Error.VMWRITE_FAILED, {"SEEN": 0x7FFE, "INSTRUCTION_ERROR": 12}, "VMWRITE of field 0x7ffe failed"),
        (Error.INVEPT_FAILED, {"INSTRUCTION_ERROR": 28}, "INVEPT failed: VM-instruction error 28"),
        (Error.VMXON_FAILED, {}, "L1's VMXON failed"),
        (Error.VMCLEAR_FAILED, {}, "L1's VMCLEAR failed"),
        (Error.VMPTRLD_FAILED, {}, "L1's VMPTRLD failed"),
    ],
)
def test_instructions_that_failed(code, words, text):
    assert text in str(failure(code, **words))


def test_every_code_is_decoded():
    for code in Error:
        assert failure(code).code == code


def test_an_unknown_code_is_an_error_of_its_own():
    error = failure(0x63)
    assert type(error) is GuestError
    assert "unknown code 0x63" in str(error)


def test_exits_in_words():
    assert "the guest halted where doorbell READY belongs" in str(UnexpectedExit(HltExit(), "doorbell READY"))
    assert "MmioExit" in str(UnexpectedExit(MmioExit(0x1000, b"", True), "doorbell READY"))
