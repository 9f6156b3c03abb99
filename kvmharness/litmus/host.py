"""The VM of a litmus test, and what userspace does to it between rows."""

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from kvmharness.abi.constants import Cap, MemFlag
from kvmharness.guest.blueprint import Blueprint
from kvmharness.guest.build import SHADOW_PAGES, set_state
from kvmharness.guest.layout import PAGE_BYTES
from kvmharness.guest.saved import SavedVcpu, settle
from kvmharness.kvm.capabilities import TSS_GPA
from kvmharness.kvm.memory import Memory
from kvmharness.kvm.system import Kvm
from kvmharness.kvm.vcpu import Vcpu
from kvmharness.kvm.vm import Vm
from kvmharness.litmus.protocol import DATA_SLOT, MOVED, TAG_AT, TAG_SHIFT, VECTOR
from kvmharness.measure.stats_fd import StatsFd

_CODE_SLOT = 0


class Host:
    """A VM with two memslots: one for code, tables and rows, one for the pages that probes lead to.

    Args:
        kvm: the open device.
        blueprint: what the guest is.
        cpuid: ``struct kvm_cpuid2 *`` for its vCPUs.

    Attributes:
        vcpu: the one that runs.
    """

    def __init__(self, kvm: Kvm, blueprint: Blueprint, cpuid: Any) -> None:
        self._kvm, self._blueprint, self._cpuid = kvm, blueprint, cpuid
        self._open = ExitStack()
        self._flags = MemFlag(0)
        self._there = True
        self._stats: dict[int, StatsFd] = {}
        self._logged = b""

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            split = self._blueprint.size_bytes // 2
            self._code = opened.enter_context(Memory(0, split, _CODE_SLOT))
            self._data = opened.enter_context(Memory(split, split, DATA_SLOT))
            self._spare: Memory | None = None
            for gpa, data in self._blueprint.pages.items():
                self.write(gpa, data)
            self._vm = opened.enter_context(self._kvm.create_vm())
            self._start(self._vm)
            self.vcpu = self._new_vcpu(self._vm, 0)
            self._other: Vcpu | None = None
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()
        for memory in (self._data, self._spare):  # one of them is closed by now
            if memory is not None:
                memory.close()

    def write(self, gpa: int, data: bytes) -> None:
        """Writes guest memory."""
        (self._data if gpa >= self._data.gpa else self._code).write(gpa, data)

    def read(self, gpa: int, length: int) -> bytes:
        """Reads guest memory below the pages of the probes."""
        return self._code.read(gpa, length)

    def stats(self) -> dict[str, int]:
        """KVM's statistics of the VM and of the vCPU that runs, since they were made."""
        values: dict[str, int] = {}
        for fd in (self._vm.get_stats_fd(), self.vcpu.get_stats_fd()):
            if fd not in self._stats:
                self._stats[fd] = StatsFd(fd)  # which reads what there is
            values |= {name: value for name, value in self._stats[fd].read().items() if isinstance(value, int)}
        return values

    # vCPUs

    def _start(self, vm: Vm) -> None:
        vm.set_tss_addr(TSS_GPA)
        vm.set_nr_mmu_pages(SHADOW_PAGES)
        vm.set_user_memory_region(_CODE_SLOT, 0, self._code.size, self._code.hva)
        self._set_slot(vm, self._flags)

    def _new_vcpu(self, vm: Vm, number: int) -> Vcpu:
        vcpu = vm.create_vcpu(number)
        vcpu.set_struct("KVM_SET_CPUID2", self._cpuid)
        if self._blueprint.msrs:
            vcpu.set_msrs(self._blueprint.msrs)
        set_state(vcpu, "KVM_SET_SREGS", self._blueprint.sregs)
        set_state(vcpu, "KVM_SET_REGS", self._blueprint.regs)
        return vcpu

    def add_second(self, rows_gpa: int, begin: int) -> None:
        """A second vCPU, which begins with the row at an address.

        Args:
            rows_gpa: of its first row.
            begin: gpa of the code that begins with a row.
        """
        self._other = self._new_vcpu(self._vm, 1)
        regs = self._other.get_struct("KVM_GET_REGS")
        regs.rbx, regs.rip = rows_gpa, begin
        self._other.set_struct("KVM_SET_REGS", regs)

    def switch(self) -> None:
        """The other vCPU is the one that runs."""
        assert self._other is not None
        self.vcpu, self._other = self._other, self.vcpu

    # Steps

    def step(self, verb: str, what: str) -> str:
        """Does one; gives its answer.

        Raises:
            IoctlError: KVM refuses it.
        """
        act: Callable[[], str | None] = getattr(self, f"_{verb}_{what}" if what else f"_{verb}")
        return act() or "done"

    def _slot_delete(self) -> None:
        if self._there:
            self._vm.set_user_memory_region(DATA_SLOT, 0, 0, 0)
        self._there = False
        self._flags = MemFlag(0)

    def _slot_add(self) -> None:
        if not self._there:
            self._there = True
            self._set_slot(self._vm, self._flags)

    def _slot_move(self) -> None:
        """The same place in the guest's memory, over other memory of the host."""
        if self._spare is None:
            self._spare = _moved(self._data)
        self._slot_delete()
        self._data, self._spare = self._spare, self._data
        self._slot_add()

    def _slot_readonly(self) -> None:
        """KVM refuses to change that flag: the slot is made anew."""
        self._slot_delete()
        self._flags = MemFlag.READONLY
        self._slot_add()

    def _slot_writable(self) -> None:
        self._slot_delete()
        self._slot_add()

    def _set_slot(self, vm: Vm, flags: MemFlag) -> None:
        vm.set_user_memory_region(DATA_SLOT, self._data.gpa, self._data.size, self._data.hva, flags)

    def _dirty_start(self) -> None:
        self._flags |= MemFlag.LOG_DIRTY_PAGES
        self._set_slot(self._vm, self._flags)

    def _dirty_stop(self) -> None:
        self._flags &= ~MemFlag.LOG_DIRTY_PAGES
        self._set_slot(self._vm, self._flags)

    def _dirty_get(self) -> str:
        self._logged = self._vm.get_dirty_log(DATA_SLOT)
        log = int.from_bytes(self._logged, "little")
        pages = [n for n in range(self._data.size // PAGE_BYTES) if log >> n & 1]
        return " ".join(f"d{n}" for n in pages) or "-"

    def _dirty_manual(self) -> None:
        self._vm.enable_cap(Cap.MANUAL_DIRTY_LOG_PROTECT2, 1)

    def _dirty_automatic(self) -> None:
        self._vm.enable_cap(Cap.MANUAL_DIRTY_LOG_PROTECT2, 0)

    def _dirty_clear(self) -> None:
        """All pages that the log had when it was last read."""
        self._vm.clear_dirty_log(DATA_SLOT, 0, self._data.size // PAGE_BYTES, self._logged)

    def interrupt(self) -> None:
        """Injects one into whoever runs, whose IF must be 1. Source: api.rst, "KVM_INTERRUPT"."""
        self.vcpu.interrupt(VECTOR)

    def _sregs(self) -> None:
        """Out and in again, as userspace does after looking."""
        settle(self.vcpu)
        self.vcpu.set_struct("KVM_SET_SREGS", self.vcpu.get_struct("KVM_GET_SREGS"))

    def _nested(self) -> None:
        """Nested state out and in again, into the same vCPU."""
        settle(self.vcpu)
        self._saved(self.vcpu).put(self.vcpu)

    def _migrate(self) -> None:
        """Everything into a new VM over the same memory; the old one goes."""
        vcpus = [self.vcpu] + ([self._other] if self._other else [])
        for vcpu in vcpus:
            settle(vcpu)
        states = [(vcpu.id, self._saved(vcpu)) for vcpu in vcpus]
        vm = self._open.enter_context(self._kvm.create_vm())
        self._start(vm)
        if not self._there:
            vm.set_user_memory_region(DATA_SLOT, 0, 0, 0)
        made = []
        for number, state in states:
            vcpu = self._new_vcpu(vm, number)
            state.put(vcpu)
            made.append(vcpu)
        self._vm.close()
        self._stats.clear()
        self._vm, self.vcpu = vm, made[0]
        self._other = made[1] if len(made) > 1 else None

    def _saved(self, vcpu: Vcpu) -> SavedVcpu:
        return SavedVcpu(vcpu, self._blueprint.msrs)


def _moved(data: Memory) -> Memory:
    """Other memory for the same place, whose tags say so."""
    spare = Memory(data.gpa, data.size, data.slot)
    for gpa in range(data.gpa + TAG_AT, data.gpa + data.size, PAGE_BYTES):
        if word := data.read_u64(gpa):
            spare.write_u64(gpa, word + (MOVED << TAG_SHIFT))
    return spare
