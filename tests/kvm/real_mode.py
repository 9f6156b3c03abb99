"""Guests of a few bytes in real mode, encoded by hand: what they are is in each name."""

from dataclasses import replace

from kvmharness.kvm import Regs

CODE_GPA = 0x1000
MEMORY_BYTES = 0x10000

HLT = bytes.fromhex("f4")
SPIN = bytes.fromhex("eb fe")  # jmp $
OUT_AL_HLT = bytes.fromhex("ba f8 03 ee f4")  # mov dx, 0x3f8; out dx, al; hlt
OUT_AX_TWICE = bytes.fromhex("b8 34 12 e7 80 40 e7 80 f4")  # mov ax, 0x1234; out 0x80, ax; inc ax; out 0x80, ax; hlt
IN_AX_OUT = bytes.fromhex("e5 40 e7 80 f4")  # in ax, 0x40; out 0x80, ax; hlt
READ_FAR_BYTE = bytes.fromhex("b8 00 80 8e d8 a0 00 00 e6 80 f4")  # ds = 0x8000; mov al, [0]; out 0x80, al; hlt
WRITE_FAR_WORD = bytes.fromhex("b8 00 80 8e d8 b8 cd ab a3 04 00 f4")  # ds = 0x8000; mov word [4], 0xabcd; hlt
STORE_AT_3000 = bytes.fromhex("c6 06 00 30 5a f4")  # mov byte [0x3000], 0x5a; hlt
UD2 = bytes.fromhex("0f 0b")
RDMSR_1234 = bytes.fromhex("66 b9 34 12 00 00 0f 32 f4")  # mov ecx, 0x1234; rdmsr; hlt


def load(vm, code, *, memory_bytes=MEMORY_BYTES):
    """A vCPU about to run *code* at gpa 0x1000, segments flat at 0, stack below the code."""
    memory = vm.add_memory(0, memory_bytes)
    memory.write(CODE_GPA, code)
    vcpu = vm.create_vcpu()
    point(vcpu)
    return vcpu


def point(vcpu):
    """Sends the vCPU to the code."""
    sregs = vcpu.get_sregs()
    sregs.cs = replace(sregs.cs, base=0, selector=0)
    vcpu.set_sregs(sregs)
    vcpu.set_regs(Regs(rip=CODE_GPA, rsp=CODE_GPA))
