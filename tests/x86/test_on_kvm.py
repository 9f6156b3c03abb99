"""The tables, descriptors and gates on a processor: KVM_TRANSLATE as a third walker, and a guest that takes a #PF."""

import mmap
import os
import struct

import pytest

from kvmharness.x86.paging import KERNEL, PAGE_2M, READ_ONLY, PageTables, Pte
from kvmharness.x86.registers import LONG_MODE_CR0, LONG_MODE_CR4, LONG_MODE_EFER, Rflags
from kvmharness.x86.segments import GDT_BYTES, gdt, idt, long_mode_segments, tss

pytestmark = pytest.mark.needs("kvm")

MEMORY_BYTES = 4 << 20
GDT, TSS, IDT, CODE, HANDLER, STACK, IST1 = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x8000, 0xA000
PAGE_A, PAGE_B, TABLES_A = 0x20_0000, 0x20_1000, 0x10_0000
PROBE = 0x4000_0000
KVM_EXIT_HLT = 5

# mov rbp, PROBE; mov rbx, [rbp]; mov cr3, rdi; mov rcx, [rbp]; mov [rbp], rcx
READ_SWITCH_READ_WRITE = bytes.fromhex("48bd" + PROBE.to_bytes(8, "little").hex() + "488b5d00 0f22df 488b4d00 48894d00")
# pop rax (the error code); mov rdx, cr2; mov rsi, rsp; hlt
REPORT_FAULT = bytes.fromhex("58 0f20d2 4889e6 f4")


class Machine:
    """One vCPU in long mode, straight on the ABI."""

    def __init__(self, tables: PageTables):
        from kvmharness.abi.binding import IOCTLS, SYSTEM, VCPU, VM, Fd, address_of, ffi, ioctl

        def call(fd, name, arg=0):
            return ioctl(fd, IOCTLS[name], arg)

        self.ffi, self.call = ffi, call
        self.system = Fd(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC), SYSTEM)
        self.vm = Fd(call(self.system, "KVM_CREATE_VM"), VM)
        self.memory = mmap.mmap(-1, MEMORY_BYTES)
        region = ffi.new("struct kvm_userspace_memory_region *")
        region.memory_size = MEMORY_BYTES
        region.userspace_addr = address_of(ffi.from_buffer(self.memory))
        call(self.vm, "KVM_SET_USER_MEMORY_REGION", region)
        self.vcpu = Fd(call(self.vm, "KVM_CREATE_VCPU", 0), VCPU)
        self.run_page = mmap.mmap(self.vcpu.number, call(self.system, "KVM_GET_VCPU_MMAP_SIZE"))
        self.set_long_mode(tables)

    def close(self):
        self.run_page.close()
        for fd in (self.vcpu, self.vm, self.system):
            os.close(fd.number)

    def write(self, gpa: int, data: bytes):
        self.memory[gpa : gpa + len(data)] = data

    def set_long_mode(self, tables: PageTables):
        sregs = self.ffi.new("struct kvm_sregs *")
        self.call(self.vcpu, "KVM_GET_SREGS", sregs)
        for name, segment in long_mode_segments(TSS).items():
            for field, value in segment.kvm_fields().items():
                setattr(getattr(sregs, name), field, value)
        sregs.gdt.base, sregs.gdt.limit = GDT, GDT_BYTES - 1
        sregs.idt.base, sregs.idt.limit = IDT, 32 * 16 - 1
        sregs.cr0, sregs.cr3, sregs.cr4 = int(LONG_MODE_CR0), tables.cr3().value, int(LONG_MODE_CR4)
        sregs.efer = int(LONG_MODE_EFER)
        self.call(self.vcpu, "KVM_SET_SREGS", sregs)

    def run(self, **registers: int):
        regs = self.ffi.new("struct kvm_regs *", {"rflags": int(Rflags.FIXED), **registers})
        self.call(self.vcpu, "KVM_SET_REGS", regs)
        self.call(self.vcpu, "KVM_RUN")
        assert struct.unpack_from("<I", self.run_page, 8) == (KVM_EXIT_HLT,)
        self.call(self.vcpu, "KVM_GET_REGS", regs)
        return regs

    def translate(self, gva: int) -> int | None:
        answer = self.ffi.new("struct kvm_translation *", {"linear_address": gva})
        self.call(self.vcpu, "KVM_TRANSLATE", answer)
        return answer.physical_address if answer.valid else None


@pytest.fixture
def spaces():
    """Two address spaces that differ in the probe page: writable A, read-only B."""
    first = PageTables(TABLES_A)
    first.map(0, 0, MEMORY_BYTES, page_bytes=PAGE_2M)
    first.map(PROBE, PAGE_A, flags=KERNEL | Pte.NX)
    second = PageTables(TABLES_A + len(first.image))
    second.map(0, 0, MEMORY_BYTES, page_bytes=PAGE_2M)
    second.map(PROBE, PAGE_B, flags=READ_ONLY)
    return first, second


@pytest.fixture
def machine(spaces):
    opened = Machine(spaces[0])
    for tables in spaces:
        opened.write(tables.base_gpa, tables.image)
    opened.write(GDT, gdt(TSS))
    opened.write(TSS, tss(ist=(IST1,)))
    opened.write(IDT, idt({14: HANDLER}))
    yield opened
    opened.close()


def test_kvm_translates_as_the_builder_mapped(machine):
    assert machine.translate(PROBE + 0x123) == PAGE_A + 0x123
    assert machine.translate(0x20_4567) == 0x20_4567
    assert machine.translate(PROBE + 0x1000) is None
    assert machine.translate(MEMORY_BYTES) is None


def test_switching_cr3_and_a_write_to_a_read_only_page(machine, spaces):
    machine.write(PAGE_A, b"\xaa")
    machine.write(PAGE_B, b"\xbb")
    machine.write(CODE, READ_SWITCH_READ_WRITE)
    machine.write(HANDLER, REPORT_FAULT)
    regs = machine.run(rip=CODE, rsp=STACK, rdi=spaces[1].cr3().value)
    assert (regs.rbx, regs.rcx) == (0xAA, 0xBB)
    assert regs.rax == 0b011  # present, write, supervisor
    assert regs.rdx == PROBE
    assert STACK - 64 < regs.rsi < STACK
