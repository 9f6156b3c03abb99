"""The CPUID of one of a test's vCPUs: what KVM supports, changed as the test asks. Runs inside."""

from collections.abc import Mapping
from typing import Any

from kvmharness.abi.binding import IOCTLS
from kvmharness.abi.constants import Cap
from kvmharness.kvm.lists import read_cpuid
from kvmharness.kvm.system import Kvm

_VENDOR, _FEATURES, _EXTENDED_MAX, _ADDRESS_SIZES = 0x0, 0x1, 0x8000_0000, 0x8000_0008
_TOPOLOGY = (0xB, 0x1F)  # EDX is the x2APIC id of the processor that asks
_TSC_DEADLINE, _HYPERVISOR = 1 << 24, 1 << 31  # of leaf 1, ECX
_REGISTERS = ("eax", "ebx", "ecx", "edx")


def cpuid_for(kvm: Kvm, processor: Mapping[str, Any], apic_id: int, smp: int) -> Any:
    """A ``struct kvm_cpuid2 *``.

    Args:
        kvm: the open device.
        processor: as :meth:`kvmharness.suites.unittests.processor.Processor.to_json` gives it.
        apic_id: of this vCPU.
        smp: how many vCPUs there are.

    Raises:
        IoctlError: KVM refuses to say what it supports.
    """
    table = read_cpuid(kvm.handle, IOCTLS["KVM_GET_SUPPORTED_CPUID"])
    entries = {(entry.function, entry.index): entry for entry in (table.entries[n] for n in range(table.nent))}
    # KVM says apart that its local APIC has the timer's third mode.
    if kvm.check_extension(Cap.TSC_DEADLINE_TIMER):
        entries[_FEATURES, 0].ecx |= _TSC_DEADLINE
    entries[_FEATURES, 0].ecx |= _HYPERVISOR
    for (leaf, subleaf), entry in entries.items():
        for register in _REGISTERS:
            setattr(entry, register, _changed(getattr(entry, register), (leaf, subleaf, register), processor))
        if leaf == _FEATURES:
            entry.ebx = entry.ebx & 0xFFFF | smp << 16 | apic_id << 24
        elif leaf in _TOPOLOGY:
            entry.edx = apic_id
        elif leaf == _ADDRESS_SIZES and processor["phys_bits"]:
            entry.eax = entry.eax & ~0xFF | processor["phys_bits"]
        elif leaf in (_VENDOR, _EXTENDED_MAX) and processor["vendor"]:
            vendor = processor["vendor"].encode()
            for register, at in (("ebx", 0), ("edx", 4), ("ecx", 8)):
                setattr(entry, register, int.from_bytes(vendor[at : at + 4], "little"))
    return table


def _changed(offered: int, where: tuple[int, int, str], processor: Mapping[str, Any]) -> int:
    value = offered
    for leaf, subleaf, register, mask in processor["keep"]:
        if (leaf, subleaf, register) == where:
            value &= mask
    for leaf, subleaf, register, mask in processor["add"]:
        if (leaf, subleaf, register) == where:
            value |= offered & mask
    for leaf, subleaf, register, mask in processor["remove"]:
        if (leaf, subleaf, register) == where:
            value &= ~mask
    return value
