"""The VMCB against the manual's layout, exit codes against the system's own header."""

import re
import struct
from pathlib import Path

import pytest

from kvmharness.lean.dataclasses import replace
from kvmharness.x86.registers import LONG_MODE_CR4, LONG_MODE_EFER, Cr4, Efer
from kvmharness.x86.segments import CODE64, DATA, NULL_LDT, tss_segment
from kvmharness.x86.svm import INVALID, VMCB_BYTES, SvmExit, Vmcb, describe_svm_exit, segment_bytes, vmcb
from kvmharness.x86.vmcs12 import DescriptorTables, GuestState

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/svm.h")
TABLES = DescriptorTables(gdt_base=0x1000, idt_base=0x1200, tss_base=0x1100)
EFER = int(LONG_MODE_EFER | Efer.SVME)
L2 = GuestState(rip=0x20000, rsp=0x7000, cr3=0x105000, tables=TABLES, cr4=int(LONG_MODE_CR4), efer=EFER)

# APM vol. 2, appendix "Layout of VMCB": control area, then state save area (its offsets count from 0x400).
CONTROL_AREA = {
    "INTERCEPT_EXCEPTIONS": 0x08,
    "INTERCEPT_MISC1": 0x0C,
    "INTERCEPT_MISC2": 0x10,
    "IOPM_BASE_PA": 0x40,
    "MSRPM_BASE_PA": 0x48,
    "TSC_OFFSET": 0x50,
    "ASID": 0x58,
    "TLB_CONTROL": 0x5C,
    "EXITCODE": 0x70,
    "EXITINFO1": 0x78,
    "EXITINFO2": 0x80,
    "EXITINTINFO": 0x88,
    "NP_ENABLE": 0x90,
    "EVENTINJ": 0xA8,
    "N_CR3": 0xB0,
    "CLEAN_BITS": 0xC0,
}
SAVE_AREA = {
    **{name: 0x10 * i for i, name in enumerate("ES CS SS DS FS GS GDTR LDTR IDTR TR".split())},  # noqa: SIM905
    "CPL": 0xCB,
    "EFER": 0xD0,
    "CR4": 0x148,
    "CR3": 0x150,
    "CR0": 0x158,
    "DR7": 0x160,
    "DR6": 0x168,
    "RFLAGS": 0x170,
    "RIP": 0x178,
    "RSP": 0x1D8,
    "RAX": 0x1F8,
    "CR2": 0x240,
    "G_PAT": 0x268,
}
EXCEPTIONS = {"DB": 1, "UD": 6, "DF": 8, "GP": 13, "PF": 14}


def u64(page, offset):
    return int.from_bytes(page[offset : offset + 8], "little")


def test_offsets_are_the_manuals():
    wanted = CONTROL_AREA | {name: 0x400 + offset for name, offset in SAVE_AREA.items()}
    assert {field.name: int(field) for field in Vmcb} == wanted


@pytest.mark.skipif(not HEADER.exists(), reason=f"{HEADER}: apt-get install linux-libc-dev")
def test_exit_codes_are_the_systems():
    defined = dict(re.findall(r"#define SVM_EXIT_(\w+)\s+(0x\w+)", HEADER.read_text()))
    for code in SvmExit:
        mnemonic = code.name.removeprefix("EXCEPTION_")
        wanted = 0x40 + EXCEPTIONS[mnemonic] if mnemonic != code.name else int(defined[code.name], 0)
        assert code == wanted, code.name


def test_a_vmcb_with_nested_paging():
    page = vmcb(L2, n_cr3=0x130000, asid=1, exceptions=0xFFFF_FFFF)
    assert len(page) == VMCB_BYTES == 4096
    assert struct.unpack_from("<6I", page) == (0, 0, 0xFFFF_FFFF, 1 << 31, 0b11, 0)
    assert struct.unpack_from("<IB", page, 0x58) == (1, 0)
    assert (u64(page, 0x90), u64(page, 0xB0), u64(page, 0xC0)) == (1, 0x130000, 0)
    assert (u64(page, 0x4D0), u64(page, 0x548), u64(page, 0x550)) == (0x1D00, 0x620, 0x105000)
    assert (u64(page, 0x558), u64(page, 0x570), u64(page, 0x578)) == (0x8001_0033, 2, 0x20000)
    assert (u64(page, 0x560), u64(page, 0x568), u64(page, 0x668)) == (0x400, 0xFFFF_0FF0, 0x0007_0406_0007_0406)
    assert (u64(page, 0x5D8), page[0x4CB]) == (0x7000, 0)


def test_a_vmcb_without_and_with_a_flush():
    page = vmcb(L2, n_cr3=None, asid=7, flush=True)
    assert struct.unpack_from("<IB", page, 0x58) == (7, 1)
    assert (u64(page, 0x90), u64(page, 0xB0)) == (0, 0)


def test_segments_in_the_vmcb():
    """Attributes: APM vol. 2, "VMCB State Save Area": type, S, DPL, P, then AVL, L, DB, G without a hole."""
    assert segment_bytes(CODE64) == struct.pack("<HHIQ", 8, 0xA9B, 0xFFFF_FFFF, 0)
    assert segment_bytes(DATA) == struct.pack("<HHIQ", 16, 0xC93, 0xFFFF_FFFF, 0)
    assert segment_bytes(tss_segment(0x1100)) == struct.pack("<HHIQ", 24, 0x08B, 0x67, 0x1100)
    assert segment_bytes(NULL_LDT) == bytes(16)
    page = vmcb(L2, n_cr3=None, asid=1)
    assert page[0x410:0x420] == segment_bytes(CODE64)
    assert page[0x490:0x4A0] == segment_bytes(tss_segment(0x1100))
    assert struct.unpack_from("<HHIQ", page, 0x460) == (0, 0, 55, 0x1000)
    assert struct.unpack_from("<HHIQ", page, 0x480) == (0, 0, 0x1FF, 0x1200)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"efer": int(LONG_MODE_EFER)}, "SVME"),
        ({"efer": EFER & ~int(Efer.LMA)}, "LMA"),
        ({"cr4": int(LONG_MODE_CR4 & ~Cr4.PAE)}, "control registers"),
        ({"cr3": 1 << 52}, "CR3"),
        ({"rip": 1 << 47}, "non-canonical"),
    ],
)
def test_a_state_that_vmrun_would_refuse(changed, complaint):
    with pytest.raises(ValueError, match=complaint):
        vmcb(replace(L2, **changed), n_cr3=None, asid=1)


@pytest.mark.parametrize(("controls", "complaint"), [({"asid": 0}, "ASID"), ({"n_cr3": 0x1010}, "page aligned")])
def test_controls_that_vmrun_would_refuse(controls, complaint):
    with pytest.raises(ValueError, match=complaint):
        vmcb(L2, **{"n_cr3": None, "asid": 1, **controls})


@pytest.mark.parametrize(
    ("exit_", "text"),
    [
        ((INVALID, 0, 0), "VMRUN refused the VMCB (VMEXIT_INVALID)"),
        ((0x78,), "#VMEXIT HLT (0x78)"),
        ((0x400, 1 << 32 | 4, 0x5000), "#VMEXIT NPF (0x400): error code 0x100000004, gpa 0x5000"),
        ((0x4E, 2, 0x1234000), "#VMEXIT exception 14 (0x4e), error code 0x2, address 0x1234000"),
        ((0x46, 0, 0), "#VMEXIT exception 6 (0x46)"),
        ((0x7B, 0x4B0210), "#VMEXIT IOIO (0x7b), info 0x4b0210"),
        ((0x333,), "#VMEXIT of an unknown reason (0x333)"),
    ],
)
def test_exits_in_words(exit_, text):
    assert describe_svm_exit(*exit_) == text
