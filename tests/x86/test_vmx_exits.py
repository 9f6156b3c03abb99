import re
from pathlib import Path

import pytest

from kvmharness.x86.vmx_exits import (
    CrAccess,
    EptViolation,
    IoAccess,
    VmInstructionError,
    VmxExit,
    describe_exit,
    describe_vm_instruction_error,
)

# SDM, appendix "VMX Basic Exit Reasons"
SDM_REASONS = {
    "EXCEPTION_NMI": 0,
    "EXTERNAL_INTERRUPT": 1,
    "TRIPLE_FAULT": 2,
    "CPUID": 10,
    "HLT": 12,
    "INVLPG": 14,
    "VMCALL": 18,
    "VMLAUNCH": 20,
    "VMPTRLD": 21,
    "VMREAD": 23,
    "VMRESUME": 24,
    "VMWRITE": 25,
    "CR_ACCESS": 28,
    "IO_INSTRUCTION": 30,
    "INVALID_STATE": 33,
    "EPT_VIOLATION": 48,
    "EPT_MISCONFIG": 49,
    "INVEPT": 50,
    "INVVPID": 53,
    "PML_FULL": 62,
}
HEADER = Path("/usr/include/x86_64-linux-gnu/asm/vmx.h")


def test_reasons_golden():
    assert {name: VmxExit[name].value for name in SDM_REASONS} == SDM_REASONS


@pytest.mark.skipif(not HEADER.exists(), reason=f"{HEADER} is missing: install linux-libc-dev")
def test_reasons_against_the_system_header():
    text = HEADER.read_text()
    header = {name: int(number) for name, number in re.findall(r"#define EXIT_REASON_(\w+)\s+(\d+)\b", text)}
    assert header
    common = {reason.name: reason.value for reason in VmxExit if reason.name in header}
    assert common == {name: header[name] for name in common}
    assert {name for name, number in header.items() if number < 63} <= set(common)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (1, "VMCALL_IN_VMX_ROOT"),
        (4, "NONCLEAR"),
        (5, "NONLAUNCHED"),
        (7, "INVALID_CONTROL_FIELD"),
        (8, "INVALID_HOST_STATE"),
        (11, "REVISION_ID"),
        (12, "UNSUPPORTED_VMCS_COMPONENT"),
        (13, "READ_ONLY"),
        (26, "MOV_SS"),
        (28, "INVEPT_INVVPID"),
    ],
)
def test_vm_instruction_errors_golden(number, name):
    """SDM, table "VM-Instruction Error Numbers"."""
    assert name in describe_vm_instruction_error(number)


def test_vm_instruction_error_that_nobody_defined():
    assert "14 (not a known number)" in describe_vm_instruction_error(14)
    assert 14 not in [error.value for error in VmInstructionError]


def test_cr_access_golden():
    """mov cr3, rbx is qualification 0x303; mov rax, cr3 is 0x13."""
    assert CrAccess.decode(0x303) == CrAccess(3, "mov to", 3, 0)
    assert CrAccess.decode(0x13) == CrAccess(3, "mov from", 0, 0)
    assert CrAccess.decode(0x1234_0030) == CrAccess(0, "lmsw", 0, 0x1234)
    assert describe_exit(28, 0x303) == "VM exit CR_ACCESS (28): mov to CR3, register 3"


def test_io_golden():
    """out 0xe9, al with the port in DX; rep insd from 0x1f0."""
    assert IoAccess.decode(0xE9_0000) == IoAccess(0xE9, 1, False, False, False)
    assert IoAccess.decode(0x1F0_003B) == IoAccess(0x1F0, 4, True, True, True)
    assert "rep ins port 0x1f0, 4 bytes" in describe_exit(30, 0x1F0_003B)


def test_ept_violation_golden():
    write = EptViolation.decode(0x18A)
    assert (write.read, write.write, write.fetch) == (False, True, False)
    assert (write.readable, write.writable, write.executable) == (True, False, False)
    assert not write.during_walk
    assert describe_exit(48, 0x81) == "VM exit EPT_VIOLATION (48): read, allowed ---, in a table walk"


@pytest.mark.parametrize(
    ("reason", "qualification", "text"),
    [
        (0x8000_0021, 0, "invalid guest state; check"),
        (0x8000_0021, 4, "VMCS link pointer"),
        (0x8000_0021, 9, "qualification 0x9"),
        (0x8000_0022, 3, "entry 3 of the VM-entry MSR-load list"),
        (0x8000_0029, 0, "machine check"),
        (0x8000_0030, 0, "reason 48"),
        (18, 0, "VM exit VMCALL (18)"),
        (14, 0x1000, "address 0x1000"),
        (0, 0x55, "qualification 0x55"),
        (999, 1, "unknown reason 999"),
    ],
)
def test_exits_in_words(reason, qualification, text):
    assert text in describe_exit(reason, qualification)
