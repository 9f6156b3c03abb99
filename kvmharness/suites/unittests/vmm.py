"""The VM of a unit test: memory with a multiboot image, processors, and the interrupt controllers and timer of a PC.

Runs inside: ioctls and copies of bytes.
Source: Multiboot Specification 0.6.96, "3.2 Machine state" and "3.3 Boot information format"; SDM vol. 3A, "System
Management Mode", for the place of the SMI handler.
"""

import struct
import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from kvmharness.abi.constants import PAGE_BYTES, Cap
from kvmharness.kvm.capabilities import TSS_GPA
from kvmharness.kvm.memory import Memory
from kvmharness.kvm.state import Regs
from kvmharness.kvm.system import Kvm
from kvmharness.kvm.vcpu import Vcpu
from kvmharness.suites.unittests.cpuid import cpuid_for

_MB = 1 << 20
_BELOW_4G = 0xC000_0000  # as much memory as lies below the devices
_ABOVE_4G = 1 << 32
_LOW_KB = 640
# What the loader leaves for the image lies where no image does, and what APs start from does not either.
_INFO = 0x9_0000
_MMAP, _MODULE, _CMDLINE, _ENVIRONMENT = _INFO + 0x100, _INFO + 0x200, _INFO + 0x400, _INFO + 0x1400
_TEXT_MAX = 0x1000
_LOADER_MAGIC = 0x2BADB002
_HAS_MEMORY, _HAS_CMDLINE, _HAS_MODULES, _HAS_MMAP = 1, 1 << 2, 1 << 3, 1 << 6
_SMM_SPACE = 1 << 16  # memslots of the address space that SMM sees
_SMRAM, _SMRAM_BYTES = 0x3_0000, 0x1_0000
_SMI_HANDLER = 0x8000  # from SMBASE
_RSM = b"\x0f\xaa"
_PE = 1
_FLAT = {"base": 0, "limit": 0xFFFF_FFFF, "present": 1, "dpl": 0, "db": 1, "s": 1, "l": 0, "g": 1, "unusable": 0}
_CODE, _DATA = {"selector": 0x08, "type": 0xB, **_FLAT}, {"selector": 0x10, "type": 0x3, **_FLAT}
_DATE = "`date +%s`"  # what the shell that usually starts the tests would put there


class Vmm:
    """One VM, ready to run.

    Args:
        kvm: the open device.
        wanted: as :meth:`kvmharness.suites.unittests.entry.UnitTest.step` gives it.

    Raises:
        OSError: the image cannot be read; or KVM refuses something, as IoctlError.
        SystemCallError: there is not the memory.
    """

    def __init__(self, kvm: Kvm, wanted: Mapping[str, Any]) -> None:
        self._kvm, self._wanted = kvm, wanted
        self._open = ExitStack()
        self.vcpus: list[Vcpu] = []

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._smram = opened.enter_context(Memory(_SMRAM, _SMRAM_BYTES, 0))  # before the VM: unmapped after it
            self.vm = vm = opened.enter_context(self._kvm.create_vm())
            vm.set_tss_addr(TSS_GPA)
            if self._wanted["cpu_pm"]:
                vm.enable_cap(Cap.X86_DISABLE_EXITS, vm.check_extension(Cap.X86_DISABLE_EXITS))
            vm.create_irqchip()
            if self._wanted["pit"]:
                vm.create_pit2()
                vm.reinject_control(pit_reinject=False)  # which would keep AVIC from being used
            size = self._wanted["memory_mb"] * _MB
            self._low = vm.add_memory(0, min(size, _BELOW_4G))
            if size > _BELOW_4G:
                vm.add_memory(_ABOVE_4G, size - _BELOW_4G)
            if vm.check_extension(Cap.X86_SMM):
                self._add_smm()
            self._load()
            self._create_vcpus()
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def page(self, gpa: int) -> int:
        """The hva of the page that a gpa lies in; 0 where there is no memory."""
        for memory in self.vm.memory.values():
            if 0 <= gpa - memory.gpa < memory.size:
                return memory.hva + (gpa - memory.gpa & ~(PAGE_BYTES - 1))
        return 0

    def _add_smm(self) -> None:
        """In SMM there is the same memory, but for a page range of its own with a handler that returns."""
        self._smram.write(_SMRAM + _SMI_HANDLER, _RSM)
        low, end = self._low, _SMRAM + _SMRAM_BYTES
        self.vm.set_user_memory_region(_SMM_SPACE, 0, _SMRAM, low.hva)
        self.vm.set_user_memory_region(_SMM_SPACE | 1, _SMRAM, _SMRAM_BYTES, self._smram.hva)
        self.vm.set_user_memory_region(_SMM_SPACE | 2, end, low.size - end, low.hva + end)

    def _load(self) -> None:
        with open(self._wanted["image"], "rb") as file:
            data = bytearray(file.read())
        for offset, new in self._wanted["patches"]:
            data[offset : offset + len(new) // 2] = bytes.fromhex(new)
        for offset, size, gpa, _ in self._wanted["segments"]:
            self._low.write(gpa, data[offset : offset + size])
        self._write_information()

    def _write_information(self) -> None:
        low, size = self._low.size, self._wanted["memory_mb"] * _MB
        args = self._wanted["args"].replace(_DATE, str(int(time.time())))
        name = self._wanted["image"].rpartition("/")[2]
        environment = "".join(f"{line}\n" for line in self._environment()).encode()
        ranges = [(0, _LOW_KB << 10), (_MB, low - _MB)]
        if size > low:
            ranges.append((_ABOVE_4G, size - low))
        # Each range: the size of what follows, its address and length, and its type: memory.
        mmap = b"".join(struct.pack("<IQQI", 20, address, length, 1) for address, length in ranges)
        flags = _HAS_MEMORY | _HAS_CMDLINE | _HAS_MODULES | _HAS_MMAP
        head = struct.pack("<8I", flags, _LOW_KB, (low - _MB) >> 10, 0, _CMDLINE, 1, _MODULE, 0)
        write = self._low.write
        write(_INFO, head + bytes(12) + struct.pack("<2I", len(mmap), _MMAP))
        write(_MMAP, mmap)
        write(_MODULE, struct.pack("<4I", _ENVIRONMENT, _ENVIRONMENT + len(environment), 0, 0))
        write(_CMDLINE, f"{name} {args}".strip().encode()[: _TEXT_MAX - 1] + b"\0")
        write(_ENVIRONMENT, environment)

    def _environment(self) -> list[str]:
        """What images ask QEMU's firmware configuration device for, where the environment does not say it."""
        size = self._wanted["memory_mb"]
        limit = size if size * _MB <= _BELOW_4G else size + (_ABOVE_4G - _BELOW_4G >> 20)
        return [
            f"NR_CPUS={self._wanted['smp']}",
            f"MEMSIZE={size}",
            f"MEMLIMIT={limit}",
            "TEST_DEVICE=1",
            "BOOTLOADER=0",
        ]

    def _create_vcpus(self) -> None:
        for number in range(self._wanted["smp"]):
            vcpu = self.vm.create_vcpu(number)
            self.vcpus.append(vcpu)
            vcpu.set_struct(
                "KVM_SET_CPUID2", cpuid_for(self._kvm, self._wanted["processor"], number, self._wanted["smp"])
            )
        first = self.vcpus[0]
        sregs = first.get_struct("KVM_GET_SREGS")
        for name, fields in (("cs", _CODE), *((name, _DATA) for name in ("ds", "es", "fs", "gs", "ss"))):
            segment = getattr(sregs, name)
            for field, value in fields.items():
                setattr(segment, field, value)
        sregs.cr0 |= _PE
        first.set_struct("KVM_SET_SREGS", sregs)
        first.set_regs(Regs(rax=_LOADER_MAGIC, rbx=_INFO, rip=self._wanted["entry"], rflags=2))
