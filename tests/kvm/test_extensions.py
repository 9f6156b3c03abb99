"""Filters, private memory, machine checks and other hypervisors' interfaces, on the local device."""

import errno
import os
from contextlib import suppress

import pytest

from kvmharness.abi.constants import Cap, MemFlag, MsrExitReason
from kvmharness.abi.errors import ArgumentError, IoctlError, MissingCapabilityError
from kvmharness.abi.features import (
    MemoryAttribute,
    MsrFilter,
    MsrFilterDefault,
    PmuEvent,
    Register,
    SystemAttribute,
    SystemGroup,
    TscAttribute,
)
from kvmharness.abi.xen import XenAttr, XenHvmConfig, XenVcpuAttr
from kvmharness.kvm import exits
from kvmharness.kvm.memory import Memory
from kvmharness.kvm.msr_filter import MsrFilterStruct, MsrRange
from tests.kvm import real_mode as guests
from tests.kvm.capabilities import require

pytestmark = pytest.mark.needs("kvm")

LSTAR = 0xC000_0082
MCI_STATUS_VAL = 1 << 63
MCI_STATUS_UC = 1 << 61
READ_LSTAR = bytes.fromhex("66 b9 82 00 00 c0 0f 32 f4")  # mov ecx, LSTAR; rdmsr; hlt


# MSR and PMU filters


def _filtered(vm, ranges, default=MsrFilterDefault.ALLOW):
    require(vm, Cap.X86_MSR_FILTER, Cap.X86_USER_SPACE_MSR)
    vm.enable_cap(Cap.X86_USER_SPACE_MSR, MsrExitReason.FILTER)
    vm.x86_set_msr_filter(MsrFilterStruct(ranges, default).pointer)
    return guests.load(vm, READ_LSTAR)


def test_a_filtered_msr_is_an_exit(vm):
    vcpu = _filtered(vm, [MsrRange(LSTAR - 1, (True, False, True))])
    assert vcpu.run() == exits.MsrExit(False, LSTAR, 0, MsrExitReason.FILTER)
    vcpu.kvm_run.msr.data = 0x1234
    assert vcpu.run() == exits.HltExit()
    assert vcpu.get_regs().rax == 0x1234


@pytest.mark.parametrize(
    ("ranges", "default"),
    [
        ([MsrRange(LSTAR, (False,), MsrFilter.WRITE)], MsrFilterDefault.ALLOW),
        ([MsrRange(LSTAR - 2, (False, False, True))], MsrFilterDefault.DENY),
        ([], MsrFilterDefault.ALLOW),
    ],
)
def test_an_msr_that_is_not_filtered(vm, ranges, default):
    assert _filtered(vm, ranges, default).run() == exits.HltExit()


def test_a_filter_that_is_none():
    with pytest.raises(ValueError, match="17 ranges of MSRs: a filter has at most 16"):
        MsrFilterStruct([MsrRange(number, (True,)) for number in range(17)])
    with pytest.raises(ValueError, match="a range of 0 MSRs from 0x10"):
        MsrFilterStruct([MsrRange(0x10, ())])
    with pytest.raises(ValueError, match="a range of 12289 MSRs from 0x10: it must be 1 to 12288"):
        MsrFilterStruct([MsrRange(0x10, (True,) * 12289)])


def test_a_pmu_filter_is_taken_and_a_wrong_one_is_not(vm):
    require(vm, Cap.PMU_EVENT_FILTER)
    vm.set_pmu_event_filter(PmuEvent.DENY, [0x00C0, 0x003C], fixed_counter_bitmap=1)
    with pytest.raises(IoctlError) as caught:
        vm.set_pmu_event_filter(99, [0x00C0])
    assert caught.value.errno == errno.EINVAL
    assert not isinstance(caught.value, MissingCapabilityError)


# Memory


def test_a_memslot_of_the_second_kind(vm):
    require(vm, Cap.USER_MEMORY2)
    with Memory(0, guests.MEMORY_BYTES, 0) as memory:
        vm.set_user_memory_region2(0, 0, memory.size, memory.hva, MemFlag.LOG_DIRTY_PAGES)
        memory.write(guests.CODE_GPA, guests.STORE_AT_3000)
        vcpu = vm.create_vcpu()
        guests.point(vcpu)
        assert vcpu.run() == exits.HltExit()
        assert int.from_bytes(vm.get_dirty_log(0), "little") >> 3 & 1
        vm.set_user_memory_region2(0, 0, 0, 0)
        vm.close()


def test_a_guest_memfd(vm):
    require(vm, Cap.GUEST_MEMFD)
    with vm.create_guest_memfd(guests.MEMORY_BYTES) as private:
        assert os.fstat(private.number).st_size == guests.MEMORY_BYTES
    with pytest.raises(IoctlError) as caught:
        vm.create_guest_memfd(guests.MEMORY_BYTES + 1)
    assert caught.value.errno == errno.EINVAL


def test_memory_attributes(vm):
    require(vm, Cap.MEMORY_ATTRIBUTES)
    vm.set_memory_attributes(0, guests.MEMORY_BYTES, MemoryAttribute.PRIVATE)
    with pytest.raises(IoctlError):
        vm.set_memory_attributes(1, guests.MEMORY_BYTES, MemoryAttribute.PRIVATE)


def test_memory_is_faulted_in_beforehand(vm):
    require(vm, Cap.PRE_FAULT_MEMORY)
    vcpu = guests.load(vm, guests.HLT)
    assert vcpu.pre_fault_memory(0, guests.MEMORY_BYTES) == 0


# vCPUs


def test_a_machine_check_is_injected(kvm, vm):
    require(kvm, Cap.MCE)
    banks = kvm.check_extension(Cap.MCE)
    supported = kvm.x86_get_mce_cap_supported()
    assert supported & 0xFF == 0  # the number of banks is the user's to add
    vcpu = vm.create_vcpu()
    with pytest.raises(IoctlError):
        vcpu.x86_setup_mce(banks + 1)
    vcpu.x86_setup_mce(supported | 10)
    assert vcpu.get_msrs([0x179]) == {0x179: supported | 10}  # IA32_MCG_CAP
    status = MCI_STATUS_VAL | 0x150
    vcpu.x86_set_mce({"status": status, "addr": 0x1234, "bank": 3})
    assert vcpu.get_msrs([0x401 + 4 * 3, 0x402 + 4 * 3]) == {0x40D: status, 0x40E: 0x1234}  # IA32_MC3_STATUS, _ADDR
    with pytest.raises(IoctlError):
        vcpu.x86_set_mce({"status": status, "bank": 10})


def test_tpr_reports_and_the_vapic_page(vm):
    require(vm, Cap.VAPIC)
    vm.create_irqchip()
    vcpu = guests.load(vm, guests.HLT)
    vcpu.tpr_access_reporting(enabled=True)
    vcpu.set_vapic_addr(0x5000)
    vcpu.set_vapic_addr(0)
    vcpu.tpr_access_reporting(enabled=False)


def test_cpuid_of_the_first_kind(kvm, vm):
    vcpu = vm.create_vcpu()
    vendor = next(entry for entry in kvm.get_supported_cpuid() if entry.function == 0)
    vcpu.set_cpuid([vendor.replace(eax=1)])
    (found,) = vcpu.get_cpuid2()
    assert (found.eax, found.ebx, found.ecx, found.edx) == (1, vendor.ebx, vendor.ecx, vendor.edx)


def test_emulated_cpuid(kvm):
    require(kvm, Cap.EXT_EMUL_CPUID)
    assert all(entry.function >= 0 for entry in kvm.get_emulated_cpuid())


def test_registers_by_id(vm):
    require(vm, Cap.ONE_REG)
    vcpu = vm.create_vcpu()
    msr = Register.X86 | Register.SIZE_U64 | 2 << 32 | LSTAR  # type 2: an MSR
    vcpu.set_one_reg(msr, 0x1234_5678)
    assert vcpu.get_one_reg(msr) == 0x1234_5678
    assert vcpu.get_msrs([LSTAR]) == {LSTAR: 0x1234_5678}
    assert isinstance(vcpu.get_reg_list(), list)
    with pytest.raises(IoctlError):
        vcpu.get_one_reg(msr | 0xFF << 32)


def test_an_smi_is_queued(vm):
    require(vm, Cap.X86_SMM)
    vcpu = guests.load(vm, guests.HLT)
    vcpu.smi()
    assert vcpu.get_vcpu_events().smi.pending


def test_a_guest_without_kvmclock_is_not_told_that_it_was_stopped(vm):
    require(vm, Cap.KVMCLOCK_CTRL)
    with pytest.raises(IoctlError) as caught:
        vm.create_vcpu().kvmclock_ctrl()
    assert caught.value.errno == errno.EINVAL
    assert not isinstance(caught.value, MissingCapabilityError)


def test_a_vcpu_s_capability_is_enabled(vm):
    require(vm, Cap.ENFORCE_PV_FEATURE_CPUID)
    assert vm.create_vcpu().enable_cap(Cap.ENFORCE_PV_FEATURE_CPUID, 1) == 0


def test_the_tsc_offset_is_an_attribute_of_a_vcpu(vm):
    require(vm, Cap.VCPU_ATTRIBUTES)
    vcpu = vm.create_vcpu()
    if not vcpu.has_device_attr(TscAttribute.CTRL, TscAttribute.OFFSET):
        pytest.skip("this KVM's vCPUs have no TSC offset")
    offset = vcpu.get_device_attr(TscAttribute.CTRL, TscAttribute.OFFSET)
    vcpu.set_device_attr(TscAttribute.CTRL, TscAttribute.OFFSET, offset)
    assert vcpu.get_device_attr(TscAttribute.CTRL, TscAttribute.OFFSET) == offset
    assert not vcpu.has_device_attr(TscAttribute.CTRL, 99)
    with pytest.raises(IoctlError, match="KVM_SET_DEVICE_ATTR on vCPU fd"):
        vcpu.set_device_attr(TscAttribute.CTRL, 99, offset)


def test_an_attribute_of_the_device(kvm):
    require(kvm, Cap.SYS_ATTRIBUTES)
    assert kvm.has_device_attr(SystemGroup.SYSTEM, SystemAttribute.GUEST_SUPP)
    assert int.from_bytes(kvm.get_device_attr(SystemGroup.SYSTEM, SystemAttribute.GUEST_SUPP), "little") & 3 == 3
    with pytest.raises(IoctlError):
        kvm.get_device_attr(SystemGroup.SYSTEM, 99)
    with pytest.raises(TypeError, match="not for a /dev/kvm fd"):
        kvm.set_device_attr(SystemGroup.SYSTEM, SystemAttribute.GUEST_SUPP, bytes(8))


# Other hypervisors' interfaces


def test_hyper_v_s_cpuid(kvm, vm):
    require(kvm, Cap.SYS_HYPERV_CPUID, Cap.HYPERV_CPUID)
    leaves = {entry.function: entry for entry in kvm.get_supported_hv_cpuid()}
    assert leaves[0x4000_0001].eax == int.from_bytes(b"Hv#1", "little")
    assert 0x4000_0001 in {entry.function for entry in vm.create_vcpu().get_supported_hv_cpuid()}


def test_hyper_v_s_events(vm):
    require(vm, Cap.HYPERV_EVENTFD)
    number = os.eventfd(0)
    try:
        vm.hyperv_eventfd(1, number)
        vm.hyperv_eventfd(1, -1, 1)
        with pytest.raises(IoctlError) as caught:
            vm.hyperv_eventfd(1, -1, 1)
        assert caught.value.errno == errno.ENOENT
    finally:
        os.close(number)


def test_xen_s_attributes(vm):
    require(vm, Cap.XEN_HVM)
    vm.xen_hvm_config({"flags": XenHvmConfig.INTERCEPT_HCALL, "msr": 0x4000_0000})
    vm.xen_hvm_set_attr({"type": XenAttr.LONG_MODE, "u": {"long_mode": 1}})
    assert vm.xen_hvm_get_attr(XenAttr.LONG_MODE).u.long_mode == 1
    vcpu = guests.load(vm, guests.HLT)
    vcpu.xen_vcpu_set_attr({"type": XenVcpuAttr.VCPU_INFO, "u": {"gpa": 0x5000}})
    assert vcpu.xen_vcpu_get_attr(XenVcpuAttr.VCPU_INFO).u.gpa == 0x5000


# What is not there

WITHOUT = (
    (Cap.XEN_HVM, lambda vm: vm.xen_hvm_config({})),
    (Cap.XEN_HVM, lambda vm: vm.xen_hvm_get_attr(XenAttr.LONG_MODE)),
    (Cap.XEN_HVM, lambda vm: vm.xen_hvm_evtchn_send(1, 0, 0)),
    (Cap.XEN_HVM, lambda vm: vm.create_vcpu().xen_vcpu_set_attr({})),
    (Cap.HYPERV_EVENTFD, lambda vm: vm.hyperv_eventfd(1, 0)),
    (Cap.HYPERV_CPUID, lambda vm: vm.create_vcpu().get_supported_hv_cpuid()),
    (Cap.SYS_HYPERV_CPUID, lambda vm: vm.kvm.get_supported_hv_cpuid()),
    (Cap.MEMORY_ATTRIBUTES, lambda vm: vm.set_memory_attributes(0, 0x1000, MemoryAttribute.PRIVATE)),
    (Cap.PRE_FAULT_MEMORY, lambda vm: vm.create_vcpu().pre_fault_memory(0, 0x1000)),
    (Cap.GUEST_MEMFD, lambda vm: vm.create_guest_memfd(0x1000)),
    (Cap.USER_MEMORY2, lambda vm: vm.set_user_memory_region2(0, 0, 0x1000, 0x1000)),
    (Cap.X86_SMM, lambda vm: vm.create_vcpu().smi()),
    (Cap.ONE_REG, lambda vm: vm.create_vcpu().get_reg_list()),
    (Cap.VM_ATTRIBUTES, lambda vm: vm.get_device_attr(0, 0)),
    (Cap.DIRTY_LOG_RING, lambda vm: vm.reset_dirty_rings()),
    (Cap.DIRTY_LOG_RING, lambda vm: vm.enable_cap(Cap.DIRTY_LOG_RING, 0x1000)),
    (Cap.SGX_ATTRIBUTE, lambda vm: vm.enable_cap(Cap.SGX_ATTRIBUTE)),
    (Cap.HYPERV_SYNIC2, lambda vm: vm.create_vcpu().enable_cap(Cap.HYPERV_SYNIC2)),
)


def test_what_a_kvm_has_not_is_one_error_that_names_it(kvm):
    """All of these that this machine's KVM has not; no KVM has all of them."""
    tried = set()
    for cap, call in WITHOUT:
        if kvm.check_extension(cap):
            continue
        name = f"KVM_CAP_{cap.name}"
        with kvm.create_vm() as vm:
            with pytest.raises(MissingCapabilityError, match=f"without {name}: E") as caught:
                call(vm)
            assert caught.value.capability == name
            assert f"does not have {name}" in caught.value.hint
        tried.add(cap)
    assert tried


def test_memory_encryption_says_what_it_takes(vm):
    assert "a firmware" in IoctlError("KVM_MEMORY_ENCRYPT_OP", errno.ENOTTY).hint
    with suppress(IoctlError):  # the question whether there is any
        vm.memory_encrypt_op()
    with pytest.raises(ArgumentError, match="struct kvm_sev_cmd"):
        vm.memory_encrypt_op(5)
    for call in (vm.memory_encrypt_reg_region, vm.memory_encrypt_unreg_region):
        with pytest.raises(IoctlError, match="KVM_MEMORY_ENCRYPT_"):
            call(0x1000, 0x1000)
