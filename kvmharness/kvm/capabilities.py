"""What this KVM offers to guests, read once: CPUID, the VMX capability MSRs, and the state of a new vCPU.

With it guests can be planned on another machine, or before the machine is there: everything that depends on the host's
KVM is in these bytes. The module is loaded in emulated hosts, hence the few imports.
"""

from collections.abc import Mapping
from typing import Any

from kvmharness.abi.binding import IOCTLS, ffi
from kvmharness.abi.errors import MsrError
from kvmharness.kvm.lists import read_cpuid
from kvmharness.kvm.system import Kvm
from kvmharness.lean.dataclasses import dataclass
from kvmharness.x86.msr import VMX_CAPABILITIES

TSS_GPA = 0xFFFB_D000  # three pages below 4 GiB and above all memslots, where other VMMs have it too
_TOPOLOGY_LEAVES = (0xB, 0x1F)  # EDX is the x2APIC id of the processor that asks
_FEATURES = 1
_WITHOUT_APIC_ID = 0x00FF_FFFF  # in EBX of leaf 1, whose highest byte is the APIC id of the processor that asks


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a guest of one vCPU gets.

    Attributes:
        cpuid: ``struct kvm_cpuid_entry2[]`` as bytes: all that KVM supports, with the APIC id 0.
        msrs: the VMX capability MSRs of a new vCPU; empty without nested VMX.
        sregs, regs: ``struct kvm_sregs`` and ``struct kvm_regs`` of a new vCPU, as bytes.
    """

    cpuid: bytes
    msrs: Mapping[int, int]
    sregs: bytes
    regs: bytes

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "cpuid": self.cpuid.hex(),
            "msrs": [[index, value] for index, value in self.msrs.items()],
            "sregs": self.sregs.hex(),
            "regs": self.regs.hex(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Capabilities":
        """The inverse of :meth:`to_json`. Raises: KeyError, TypeError, ValueError when it is not that."""
        return cls(
            bytes.fromhex(data["cpuid"]),
            {int(index): int(value) for index, value in data["msrs"]},
            bytes.fromhex(data["sregs"]),
            bytes.fromhex(data["regs"]),
        )


def capabilities(kvm: Kvm) -> Capabilities:
    """Reads them, from a VM that is gone afterwards.

    Raises:
        IoctlError: KVM refuses a VM, or its state.
    """
    table = read_cpuid(kvm.handle, IOCTLS["KVM_GET_SUPPORTED_CPUID"])
    entries = ffi.cast("struct kvm_cpuid_entry2 *", table.entries)
    for number in range(table.nent):
        entry = entries[number]
        # Otherwise the table would depend on the processor that this thread happened to run on.
        if entry.function == _FEATURES:
            entry.ebx &= _WITHOUT_APIC_ID
        elif entry.function in _TOPOLOGY_LEAVES:
            entry.edx = 0
    with kvm.create_vm() as vm:
        vm.set_tss_addr(TSS_GPA)  # without it KVM complains in the kernel's log on Intel without unrestricted guest
        vcpu = vm.create_vcpu()
        vcpu.set_struct("KVM_SET_CPUID2", table)
        try:
            msrs = vcpu.get_msrs(VMX_CAPABILITIES)
        except MsrError:
            msrs = {}
        sregs, regs = vcpu.get_struct("KVM_GET_SREGS"), vcpu.get_struct("KVM_GET_REGS")
        size = table.nent * ffi.sizeof("struct kvm_cpuid_entry2")
        return Capabilities(bytes(ffi.buffer(entries, size)), msrs, bytes(ffi.buffer(sregs)), bytes(ffi.buffer(regs)))


def cpuid_table(cpuid: bytes) -> Any:
    """``struct kvm_cpuid2 *`` for KVM_SET_CPUID2, from the bytes of its entries."""
    count = len(cpuid) // ffi.sizeof("struct kvm_cpuid_entry2")
    table = ffi.new("struct kvm_cpuid2 *", {"nent": count, "entries": count})
    ffi.memmove(table.entries, cpuid, len(cpuid))
    return table
