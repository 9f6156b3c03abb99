"""Giving a guest nested virtualization: what goes into CPUID and MSRs, on hosts that are only described here."""

import pytest

from kvmharness.abi.constants import NestedFormat
from kvmharness.errors import HostRequirementError
from kvmharness.kvm.lists import CpuidEntry
from kvmharness.kvm.nested import enable_nested, guest_cpuid, nested_kind, vmx_feature_msrs

VMX_BIT, PCID_BIT, INVPCID_BIT, SVM_BIT = 1 << 5, 1 << 17, 1 << 10, 1 << 2  # SDM vol. 2A, CPUID; APM vol. 3
IA32_FEATURE_CONTROL, IA32_VMX_BASIC, IA32_VMX_PINBASED_CTLS, IA32_VMX_EPT_VPID_CAP = 0x3A, 0x480, 0x481, 0x48C


class DescribedKvm:
    """A device with the given leaves and feature MSRs."""

    def __init__(self, *entries, msrs=()):
        self.entries = list(entries)
        self.msrs = dict(msrs)

    def get_supported_cpuid(self):
        return self.entries

    def get_msr_feature_index_list(self):
        return list(self.msrs)

    def get_feature_msrs(self, indices):
        return {index: self.msrs[index] for index in indices}


class RecordingVcpu:
    """Keeps what it is given, in order."""

    def __init__(self, kvm, vcpu_id=0):
        self.kvm = kvm
        self.id = vcpu_id
        self.calls = []

    def set_cpuid2(self, entries):
        self.calls.append(("cpuid", list(entries)))

    def set_msrs(self, values):
        self.calls.append(("msrs", dict(values)))


def leaf(function, index=0, *, eax=0, ebx=0, ecx=0, edx=0):
    return CpuidEntry(function, index, 0, eax, ebx, ecx, edx)


INTEL = DescribedKvm(
    leaf(0, eax=0xD),
    leaf(1, ebx=0x07000800, ecx=VMX_BIT | PCID_BIT | 1),
    leaf(7, ebx=INVPCID_BIT | 1),
    leaf(0xB, 0, edx=7),
    leaf(0xB, 1, edx=7),
    msrs={0x8B: 1, IA32_VMX_BASIC: 0xDA040000000010, IA32_VMX_EPT_VPID_CAP: 0xF0106334141},
)
AMD = DescribedKvm(leaf(1, ecx=1), leaf(0x80000001, ecx=SVM_BIT))
PLAIN = DescribedKvm(leaf(1, ecx=1), leaf(0x80000001, ecx=0))


@pytest.mark.parametrize(("kvm", "kind"), [(INTEL, NestedFormat.VMX), (AMD, NestedFormat.SVM), (PLAIN, None)])
def test_kind(kvm, kind):
    assert nested_kind(kvm) == kind


def test_vmx_gets_its_bit_and_the_lock():
    vcpu = RecordingVcpu(INTEL)
    assert enable_nested(vcpu) is NestedFormat.VMX
    (first, cpuid), (second, msrs) = vcpu.calls
    # FEATURE_CONTROL takes the VMXON bits only once CPUID has VMX
    assert (first, second) == ("cpuid", "msrs")
    assert next(entry for entry in cpuid if entry.function == 1).ecx & VMX_BIT
    assert msrs == {IA32_FEATURE_CONTROL: 0b101}


def test_restricted_capabilities_are_set_without_what_kvm_derives():
    vcpu = RecordingVcpu(INTEL)
    enable_nested(vcpu, capabilities={IA32_VMX_PINBASED_CTLS: 1, IA32_VMX_EPT_VPID_CAP: 0x41})
    assert vcpu.calls[1][1] == {IA32_VMX_EPT_VPID_CAP: 0x41, IA32_FEATURE_CONTROL: 0b101}


def test_svm_needs_no_msr():
    vcpu = RecordingVcpu(AMD)
    assert enable_nested(vcpu, capabilities={IA32_VMX_BASIC: 0}) is NestedFormat.SVM
    assert [name for name, _ in vcpu.calls] == ["cpuid"]


def test_a_host_without_nesting_says_what_to_do():
    vcpu = RecordingVcpu(PLAIN)
    with pytest.raises(HostRequirementError, match="neither VMX nor SVM") as caught:
        enable_nested(vcpu)
    assert "nested=1" in caught.value.hint
    assert vcpu.calls == []


def test_features_can_be_taken_away():
    entries = {(entry.function, entry.index): entry for entry in guest_cpuid(INTEL, vmx=False, pcid=False)}
    assert entries[1, 0].ecx == 1
    assert entries[7, 0].ebx == 1


def test_nothing_else_is_taken_away():
    assert guest_cpuid(INTEL, vcpu_id=7) == INTEL.entries


def test_apic_ids_are_the_vcpu_s():
    entries = {(entry.function, entry.index): entry for entry in guest_cpuid(INTEL, vcpu_id=2)}
    assert entries[1, 0].ebx == 0x02000800
    assert (entries[0xB, 0].edx, entries[0xB, 1].edx) == (2, 2)


def test_a_given_cpuid_is_used_as_it_is():
    vcpu = RecordingVcpu(INTEL)
    mine = [leaf(1, ecx=VMX_BIT)]
    enable_nested(vcpu, cpuid=mine)
    assert vcpu.calls[0] == ("cpuid", mine)


def test_vmx_feature_msrs_are_those_that_kvm_lists():
    assert vmx_feature_msrs(INTEL) == {IA32_VMX_BASIC: 0xDA040000000010, IA32_VMX_EPT_VPID_CAP: 0xF0106334141}
    assert vmx_feature_msrs(PLAIN) == {}
