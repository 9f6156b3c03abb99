"""Every get and set, on the local device: what is set comes back, and what must not be accepted is refused."""

import errno

import pytest

from kvmharness.abi.binding import ffi
from kvmharness.abi.constants import Cap, ClockFlag, MemFlag, MpState, VcpuEventValid
from kvmharness.abi.errors import IoctlError, MsrError
from kvmharness.kvm import Regs, exits
from kvmharness.kvm.state import ClockData, DebugRegs
from tests.kvm import real_mode as guests

pytestmark = pytest.mark.needs("kvm")

TSC, PAT, NO_SUCH_MSR = 0x10, 0x277, 0x12345678


@pytest.fixture
def vcpu(vm):
    return vm.create_vcpu()


@pytest.fixture
def chips_vcpu(vm):
    vm.create_irqchip()
    return vm.create_vcpu()


def test_reset_state(vcpu):
    """SDM vol. 3A, "Processor State After Reset"."""
    regs, sregs = vcpu.get_regs(), vcpu.get_sregs()
    assert (regs.rip, regs.rflags) == (0xFFF0, 2)
    assert (sregs.cs.base, sregs.cs.selector) == (0xFFFF0000, 0xF000)
    assert sregs.cr0 == 0x60000010
    assert sregs.idt.limit == 0xFFFF


def test_regs(vcpu):
    names = list(Regs.__match_args__)
    wanted = Regs(**{name: 0x1111 * (number + 1) for number, name in enumerate(names)}).replace(rflags=0x246)
    vcpu.set_regs(wanted)
    assert vcpu.get_regs() == wanted


def test_sregs(vcpu):
    sregs = vcpu.get_sregs()
    sregs.cr2, sregs.cr8 = 0xDEAD000, 5
    sregs.gdt.base, sregs.gdt.limit = 0x5000, 0x27
    vcpu.set_sregs(sregs)
    assert vcpu.get_sregs() == sregs


def test_sregs_in_place(vcpu):
    struct = vcpu.get_struct("KVM_GET_SREGS")
    struct.cs.base = 0x12340
    vcpu.set_struct("KVM_SET_SREGS", struct)
    assert vcpu.get_sregs().cs.base == 0x12340


def test_a_struct_of_another_ioctl_is_refused(vcpu):
    with pytest.raises(TypeError, match="KVM_SET_REGS takes a pointer to struct kvm_regs"):
        vcpu.set_struct("KVM_SET_REGS", vcpu.get_struct("KVM_GET_SREGS"))


def test_impossible_sregs_are_refused(vcpu):
    sregs = vcpu.get_sregs()
    sregs.cr0 |= 1 << 31  # PG without PE
    with pytest.raises(IoctlError, match="KVM_SET_SREGS") as caught:
        vcpu.set_sregs(sregs)
    assert caught.value.errno == errno.EINVAL
    assert "contradict" in caught.value.hint


def test_sregs2(kvm, vcpu):
    if not kvm.check_extension(Cap.SREGS2):
        pytest.skip("KVM_CAP_SREGS2: needs Linux 5.14")
    sregs = vcpu.get_sregs2()
    sregs.cr2 = 0xABC000
    vcpu.set_sregs2(sregs)
    assert vcpu.get_sregs2() == sregs
    assert vcpu.get_sregs().cr2 == 0xABC000


def test_fpu(vcpu):
    fpu = vcpu.get_fpu()
    fpu.xmm = (bytes(range(16)), *fpu.xmm[1:])
    fpu.fcw = 0x27F
    vcpu.set_fpu(fpu)
    after = vcpu.get_fpu()
    assert after.replace(mxcsr=0) == fpu.replace(mxcsr=0)  # KVM_SET_FPU leaves MXCSR alone
    assert (after.fcw, after.xmm[0]) == (0x27F, bytes(range(16)))


def test_xsave(vcpu):
    data = vcpu.get_xsave()
    assert len(data) >= 4096
    changed = data[:160] + bytes(range(16)) + data[176:512] + (3).to_bytes(8, "little") + data[520:]  # XMM0; XSTATE_BV
    vcpu.set_xsave(changed)
    assert vcpu.get_fpu().xmm[0] == bytes(range(16))
    with pytest.raises(ValueError, match="XSAVE area of 8 bytes"):
        vcpu.set_xsave(b"12345678")


def test_xcrs(vcpu):
    assert vcpu.get_xcrs() == {0: 1}  # x87 only, after reset
    vcpu.set_xcrs({0: 1})


def test_msrs(kvm, vcpu):
    vcpu.set_cpuid2(kvm.get_supported_cpuid())
    vcpu.set_msrs({PAT: 0x0606060606060606})
    assert vcpu.get_msrs([PAT]) == {PAT: 0x0606060606060606}
    assert list(vcpu.get_msrs([PAT, TSC])) == [PAT, TSC]


def test_an_msr_that_does_not_exist(vcpu):
    with pytest.raises(MsrError, match="KVM_GET_MSRS refused MSR 0x12345678") as caught:
        vcpu.get_msrs([TSC, NO_SUCH_MSR])
    assert caught.value.index == NO_SUCH_MSR
    with pytest.raises(MsrError, match="KVM_SET_MSRS refused MSR 0x12345678 = 0x1"):
        vcpu.set_msrs({NO_SUCH_MSR: 1})


def test_cpuid2(kvm, vcpu):
    entries = kvm.get_supported_cpuid()
    assert entries[0].function == 0
    assert not [entry for entry in entries if entry.function == 0x40000000 and entry.ebx == 0]
    vcpu.set_cpuid2(entries)
    ours = vcpu.get_cpuid2()
    # A paravirtual KVM keeps some leaves back, those of AMX and AVX10 for instance; it invents none.
    assert {(entry.function, entry.index) for entry in ours} <= {(entry.function, entry.index) for entry in entries}
    assert entries[0] in ours
    vcpu.set_cpuid2(ours)
    assert vcpu.get_cpuid2() == ours


def test_cpuid2_from_a_ready_struct(kvm, vcpu):
    vcpu.set_cpuid2(kvm.get_supported_cpuid())
    one_by_one = vcpu.get_cpuid2()
    vcpu.set_cpuid2(kvm.supported_cpuid())
    assert vcpu.get_cpuid2() == one_by_one


def test_vcpu_events(vcpu):
    events = vcpu.get_vcpu_events()
    events.nmi.masked = 1
    events.flags = VcpuEventValid.SHADOW
    events.interrupt.shadow = 1
    vcpu.set_vcpu_events(events)
    after = vcpu.get_vcpu_events()
    assert (after.nmi.masked, after.interrupt.shadow) == (1, 1)


def test_debugregs(vcpu):
    wanted = DebugRegs(db=(0x1000, 0x2000, 0x3000, 0x4000))
    vcpu.set_debugregs(wanted)
    assert vcpu.get_debugregs() == wanted


def test_mp_state(chips_vcpu):
    chips_vcpu.set_mp_state(MpState.HALTED)
    assert chips_vcpu.get_mp_state() is MpState.HALTED


def test_lapic(chips_vcpu):
    registers = bytearray(chips_vcpu.get_lapic())
    assert len(registers) == 1024
    registers[0x80] = 0x20  # task priority
    chips_vcpu.set_lapic(bytes(registers))
    assert chips_vcpu.get_lapic()[0x80] == 0x20
    with pytest.raises(ValueError, match="it has 1024"):
        chips_vcpu.set_lapic(b"")


def test_no_lapic_without_chips(vcpu):
    with pytest.raises(IoctlError, match="KVM_GET_LAPIC") as caught:
        vcpu.get_lapic()
    assert "create_irqchip" in caught.value.hint


def test_tsc_khz(vcpu):
    khz = vcpu.get_tsc_khz()
    assert khz > 1000
    vcpu.set_tsc_khz(khz)
    assert vcpu.get_tsc_khz() == khz


def test_translate_without_paging(vcpu):
    found = vcpu.translate(0x1234)
    assert (found.physical_address, found.valid) == (0x1234, True)


@pytest.mark.needs("nested")
def test_nested_state_round_trip(kvm, vcpu):
    vcpu.set_cpuid2(kvm.get_supported_cpuid())
    state = vcpu.get_nested_state()
    assert len(state) >= 128
    vcpu.set_nested_state(state)
    assert vcpu.get_nested_state() == state


def test_nested_state_without_a_header_is_refused(vcpu):
    with pytest.raises(ValueError, match="its header alone has 128"):
        vcpu.set_nested_state(b"short")


def test_clock(vm):
    vm.set_clock(ClockData(5_000_000_000, flags=ClockFlag.TSC_STABLE))
    assert 5_000_000_000 <= vm.get_clock().clock < 65_000_000_000


def test_shadow_pages_have_a_least_number(vm):
    """KVM_MIN_ALLOC_MMU_PAGES of arch/x86/include/asm/kvm_host.h."""
    vm.set_nr_mmu_pages(64)
    with pytest.raises(IoctlError) as caught:
        vm.set_nr_mmu_pages(63)
    assert caught.value.errno == errno.EINVAL


def test_devices_in_the_kernel(vm):
    vm.set_tss_addr(0xFFFBD000)
    vm.set_identity_map_addr(0xFFFBC000)
    vm.create_irqchip()
    with pytest.raises(IoctlError) as caught:
        vm.reinject_control(pit_reinject=False)
    assert caught.value.errno == errno.ENXIO, "there is no timer yet"
    vm.create_pit2()
    vm.reinject_control(pit_reinject=False)
    vm.create_vcpu()
    with pytest.raises(IoctlError) as caught:
        vm.create_irqchip()
    assert caught.value.errno == errno.EEXIST


def test_split_irqchip(vm):
    vm.enable_split_irqchip()
    assert len(vm.create_vcpu().get_lapic()) == 1024


def test_dirty_log(vm):
    vcpu = guests.load(vm, guests.STORE_AT_3000)
    memory = vm.memory[0]
    vm.set_user_memory_region(0, 0, memory.size, memory.hva, MemFlag.LOG_DIRTY_PAGES)
    assert vcpu.run() == exits.HltExit()
    log = int.from_bytes(vm.get_dirty_log(0), "little")
    assert log >> 3 & 1 == 1
    assert log >> 4 & 1 == 0
    assert int.from_bytes(vm.get_dirty_log(0), "little") == 0


def test_dirty_log_cleared_by_hand(vm):
    if not vm.check_extension(Cap.MANUAL_DIRTY_LOG_PROTECT2):
        pytest.skip("KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: needs Linux 5.2")
    vm.enable_cap(Cap.MANUAL_DIRTY_LOG_PROTECT2, 1)
    vcpu = guests.load(vm, guests.STORE_AT_3000, memory_bytes=64 * 0x1000)
    memory = vm.memory[0]
    vm.set_user_memory_region(0, 0, memory.size, memory.hva, MemFlag.LOG_DIRTY_PAGES)
    vcpu.run()
    log = vm.get_dirty_log(0)
    assert log == vm.get_dirty_log(0) != bytes(8)
    vm.clear_dirty_log(0, 0, 64, log)
    assert vm.get_dirty_log(0) == bytes(8)
    with pytest.raises(ValueError, match="a bitmap of 1 bytes for 64 pages"):
        vm.clear_dirty_log(0, 0, 64, b"\xff")


def test_the_dirty_log_of_no_slot(vm):
    with pytest.raises(ValueError, match="memslot 3 does not exist"):
        vm.get_dirty_log(3)


def test_stats_fds_are_owned_and_asked_once(vm, vcpu):
    if not vm.check_extension(Cap.BINARY_STATS_FD):
        pytest.skip("KVM_CAP_BINARY_STATS_FD: needs Linux 5.14")
    assert vm.get_stats_fd() == vm.get_stats_fd() != vcpu.get_stats_fd() == vcpu.get_stats_fd()


def test_kvm_run_is_reachable_by_address(vcpu):
    run = ffi.cast("struct kvm_run *", vcpu.kvm_run_address)
    vcpu.kvm_run.request_interrupt_window = 1
    assert run.request_interrupt_window == 1
