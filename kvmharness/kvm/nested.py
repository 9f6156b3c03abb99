"""What to give a guest so that it can be a hypervisor itself, on either vendor's processors.

Source: Linux, ``vmx_vcpu_after_set_cpuid()`` and ``vmx_set_vmx_msr()``: CPUID decides whether VMX exists, and which
bits IA32_FEATURE_CONTROL and CR4 may have; the VMX capability MSRs of a new vCPU are already the most that KVM offers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from kvmharness.abi.constants import NestedFormat
from kvmharness.errors import HostRequirementError
from kvmharness.kvm.capabilities import Capabilities, cpuid_table
from kvmharness.kvm.lists import CpuidEntry, cpuid_entries
from kvmharness.vendors.known import VENDORS
from kvmharness.vendors.vendor import Vendor
from kvmharness.x86.cpuid import Feature, Leaf
from kvmharness.x86.msr import VMX_CAPABILITIES, FeatureControl, Msr

if TYPE_CHECKING:
    from kvmharness.kvm.device import Device
    from kvmharness.kvm.vcpu import Vcpu

_TOPOLOGY_LEAVES = (0xB, 0x1F)  # EDX is the x2APIC id of the processor that asks
_APIC_ID_SHIFT = 24  # in EBX of leaf 1

_NO_NESTING = (
    "this host's KVM offers guests neither VMX nor SVM",
    f"reload {' or '.join(vendor.names.module for vendor in VENDORS)} with nested=1; a virtual machine needs that from "
    "its own host too; or use an emulated one: --host vmx",
)

# KVM derives these from the others or from CPUID, and takes none of them from userspace.
_DERIVED = frozenset(
    {
        Msr.VMX_PINBASED_CTLS,
        Msr.VMX_PROCBASED_CTLS,
        Msr.VMX_EXIT_CTLS,
        Msr.VMX_ENTRY_CTLS,
        Msr.VMX_CR0_FIXED1,
        Msr.VMX_CR4_FIXED1,
    }
)


def nested_kind(kvm: Device) -> NestedFormat | None:
    """Which vendor's nested virtualization the host can give a guest, or None."""
    entries = kvm.get_supported_cpuid()
    if _has(entries, Feature.VMX):
        return NestedFormat.VMX
    return NestedFormat.SVM if _has(entries, Feature.SVM) else None


def offered_features(offered: Capabilities) -> frozenset[Feature]:
    """The features that this KVM gives to guests."""
    entries = cpuid_entries(cpuid_table(offered.cpuid))
    return frozenset(feature for feature in Feature if _has(entries, feature))


def find_vendor(offered: Capabilities) -> Vendor | None:
    """The vendor whose virtualization this KVM gives to guests; None where it gives them none."""
    entries = cpuid_entries(cpuid_table(offered.cpuid))
    return next((vendor for vendor in VENDORS if _has(entries, vendor.feature)), None)


def offered_vendor(offered: Capabilities) -> Vendor:
    """The vendor whose virtualization this KVM gives to guests.

    Raises:
        HostRequirementError: none.
    """
    if vendor := find_vendor(offered):
        return vendor
    raise HostRequirementError(*_NO_NESTING)


def guest_cpuid(
    kvm: Device, *, vcpu_id: int = 0, vmx: bool = True, pcid: bool = True, without: Iterable[Feature] = ()
) -> list[CpuidEntry]:
    """The supported CPUID, less some features, with the APIC ids of the vCPU instead of the asking processor's.

    Args:
        kvm: the device.
        vcpu_id: the vCPU it is for.
        vmx: False to take nested virtualization (VMX or SVM) away.
        pcid: False to take PCID and INVPCID away.
        without: other features to take away.
    """
    removed = list(without)
    removed += [] if vmx else [Feature.VMX, Feature.SVM]
    removed += [] if pcid else [Feature.PCID, Feature.INVPCID]
    return [_for_vcpu(_remove(entry, removed), vcpu_id) for entry in kvm.get_supported_cpuid()]


def vmx_feature_msrs(kvm: Device) -> dict[int, int]:
    """The VMX capability MSRs as KVM offers them; empty where there is no nested VMX."""
    listed = set(kvm.get_msr_feature_index_list())
    return kvm.get_feature_msrs(index for index in VMX_CAPABILITIES if index in listed)


def enable_nested(
    vcpu: Vcpu, *, capabilities: Mapping[int, int] | None = None, cpuid: Iterable[CpuidEntry] | None = None
) -> NestedFormat:
    """Sets the vCPU's CPUID and feature MSRs so that its guest can run guests. Before the first run.

    Args:
        vcpu: a new vCPU.
        capabilities: VMX capability MSRs to restrict the guest to; all that KVM offers by default. What KVM derives by
            itself is left out. Nothing on AMD.
        cpuid: as guest_cpuid() gives it, the default.

    Raises:
        HostRequirementError: this host's KVM has no nesting, or has it switched off.
        MsrError: KVM does not take a restricted capability.
    """
    kind = nested_kind(vcpu.kvm)
    if kind is None:
        raise HostRequirementError(*_NO_NESTING)
    vcpu.set_cpuid2(guest_cpuid(vcpu.kvm, vcpu_id=vcpu.id) if cpuid is None else cpuid)
    if kind is NestedFormat.VMX:
        msrs = {index: value for index, value in (capabilities or {}).items() if index not in _DERIVED}
        msrs[Msr.FEATURE_CONTROL] = FeatureControl.LOCKED | FeatureControl.VMX_OUTSIDE_SMX
        vcpu.set_msrs(msrs)
    return kind


def _has(entries: Iterable[CpuidEntry], feature: Feature) -> bool:
    for entry in entries:
        if entry.function == feature.leaf and entry.index == feature.subleaf:
            return bool(getattr(entry, feature.register) & feature.mask)
    return False


def _remove(entry: CpuidEntry, features: Iterable[Feature]) -> CpuidEntry:
    for feature in features:
        if entry.function == feature.leaf and entry.index == feature.subleaf:
            entry = entry.replace(**{feature.register: getattr(entry, feature.register) & ~feature.mask})
    return entry


def _for_vcpu(entry: CpuidEntry, vcpu_id: int) -> CpuidEntry:
    """Otherwise the table would depend on the processor that this thread happened to run on."""
    if entry.function == Leaf.FEATURES:
        return entry.replace(ebx=entry.ebx & ~(0xFF << _APIC_ID_SHIFT) | (vcpu_id & 0xFF) << _APIC_ID_SHIFT)
    if entry.function in _TOPOLOGY_LEAVES:
        return entry.replace(edx=vcpu_id)
    return entry
