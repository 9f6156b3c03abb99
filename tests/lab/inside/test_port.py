"""The port's two routines, against a disassembler; running them takes an emulated host."""

import pytest

from kvmharness.lab.inside.port import IOPERM_CODE, OUT_CODE, PORT, WRITE_CODE

capstone = pytest.importorskip("capstone")


def listing(code):
    return [
        f"{i.mnemonic} {i.op_str}".strip()
        for i in capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64).disasm(code, 0)
    ]


def test_asking_for_the_port_is_the_system_call_ioperm():
    # arch/x86/entry/syscalls/syscall_64.tbl: 173 is ioperm.
    assert listing(IOPERM_CODE) == ["mov eax, 0xad", "syscall", "ret"]


def test_writing_is_one_string_instruction():
    assert listing(WRITE_CODE) == [
        "mov rcx, rsi",
        "mov rsi, rdi",
        f"mov edx, {PORT:#x}",
        "rep outsb dx, byte ptr [rsi]",
        "ret",
    ]


def test_a_byte_goes_to_the_port_that_is_named():
    # Arguments as the System V ABI has them: the byte in edi, the port in esi.
    assert listing(OUT_CODE) == ["mov eax, edi", "mov edx, esi", "out dx, al", "ret"]
