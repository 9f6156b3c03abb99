"""Nested guests that go wrong, in an emulated host with VMX: each failure arrives decoded, and KVM takes no harm."""

import pytest

from kvmharness.guest import spaces

pytestmark = pytest.mark.slow


@pytest.fixture
def outcome(skylake, request):
    return skylake.outcomes[request.node.name.removeprefix("test_")]


def test_good(outcome):
    assert outcome == {"type": None, "message": ""}


@pytest.mark.parametrize(
    ("name", "round_trip"), [("bad_guest_cr3", 2), ("bad_guest_cr3_at_the_first_entry", 0)], ids=["resume", "launch"]
)
def test_reserved_bits_in_guest_cr3(skylake, name, round_trip):
    """SDM vol. 3C, "VM-Entry Failures During or After Loading Guest State": exit reason 33 with bit 31 set."""
    found = skylake.outcomes[name]
    assert found["type"] == "EntryRefused"
    assert (found["exit_reason"], found["exit_qualification"]) == (0x8000_0021, 0)
    assert found["instruction_error"] == 0
    assert found["round_trip"] == round_trip
    assert "VM entry failed: invalid guest state" in found["message"]
    assert "CR3" in found["message"]


def test_bad_host_cr3(outcome):
    assert outcome["type"] == "EntryRefused"
    assert (outcome["instruction_error"], outcome["round_trip"]) == (8, 1)
    assert "VM-instruction error 8, ENTRY_INVALID_HOST_STATE_FIELD" in outcome["message"]


def test_bad_control(outcome):
    assert outcome["type"] == "EntryRefused"
    assert (outcome["instruction_error"], outcome["round_trip"]) == (7, 0)
    assert "ENTRY_INVALID_CONTROL_FIELD" in outcome["message"]


def test_bad_link_pointer(outcome):
    assert outcome["type"] == "EntryRefused"
    assert (outcome["exit_reason"], outcome["exit_qualification"]) == (0x8000_0021, 4)
    assert "VMCS link pointer" in outcome["message"]


def test_triple_fault_of_l2(outcome):
    assert outcome["type"] == "UnexpectedL2Exit"
    assert outcome["exit_reason"] == 2
    assert "TRIPLE_FAULT" in outcome["message"]
    assert "0x20000" in outcome["message"]


def test_exception_of_l2(outcome):
    assert outcome["type"] == "UnexpectedL2Exit"
    assert outcome["exit_reason"] == 0
    assert "vector 6" in outcome["message"]


def test_another_instruction_of_l2(outcome):
    assert outcome["type"] == "UnexpectedL2Exit"
    assert outcome["exit_reason"] == 10
    assert "CPUID" in outcome["message"]


def test_stale_in_l2(outcome):
    assert outcome["type"] == "StaleTranslation"
    assert (outcome["level"], outcome["round_trip"]) == (2, 1)
    assert (outcome["expected"], outcome["seen"]) == (spaces.guest_tag(7), spaces.guest_tag(1))


def test_stale_in_l1(outcome):
    assert outcome["type"] == "StaleTranslation"
    assert (outcome["level"], outcome["round_trip"]) == (1, 2)
    assert (outcome["expected"], outcome["seen"]) == (spaces.host_tag(7), spaces.host_tag(2))


def test_stale_through_an_ept(outcome):
    assert outcome["type"] == "StaleTranslation"
    assert (outcome["level"], outcome["round_trip"]) == (2, 1)
    assert (outcome["expected"], outcome["seen"]) == (spaces.guest_tag(0, 0), spaces.guest_tag(0, 1))


def test_exception_in_l1_while_l2_is_there(outcome):
    assert outcome["type"] == "GuestException"
    assert outcome["vector"] == 14
    assert "CR2 0x70000000" in outcome["message"]


def test_kvm_warned_of_nothing(skylake):
    assert [line for line in skylake.dmesg if "WARN" in line or "BUG" in line or "Call Trace" in line] == []
