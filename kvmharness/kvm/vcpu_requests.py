"""What one asks of a vCPU: events for its guest, reports to its user, and interfaces of other hypervisors."""

from typing import Any

from kvmharness.abi.binding import IOCTLS, ffi, ioctl
from kvmharness.abi.constants import Cap
from kvmharness.kvm.arguments import typed_errors
from kvmharness.kvm.lists import CpuidEntry, cpuid_entries, pack_list, read_cpuid, read_reg_list
from kvmharness.kvm.resources import Level


@typed_errors
class VcpuRequests(Level):
    """See :class:`kvmharness.kvm.resources.Level`."""

    __slots__ = ()

    def enable_cap(self, cap: int | Cap, *args: int, flags: int = 0) -> int:
        """Switches a capability on for this vCPU, with up to four 64-bit arguments."""
        return self._enable_cap(cap, args, flags)

    def smi(self) -> None:
        """Queues a system-management interrupt. Needs KVM_CAP_X86_SMM."""
        ioctl(self.handle, IOCTLS["KVM_SMI"])

    def kvmclock_ctrl(self) -> None:
        """Tells the guest's soft-lockup watchdog that it was stopped. EINVAL when it has no kvmclock."""
        ioctl(self.handle, IOCTLS["KVM_KVMCLOCK_CTRL"])

    def pre_fault_memory(self, gpa: int, size: int) -> int:
        """Maps guest memory before it is touched. Needs KVM_CAP_PRE_FAULT_MEMORY (6.11): two-dimensional paging.

        Returns:
            How many bytes are left to do, where a signal interrupted it; both arguments are whole pages.
        """
        struct = ffi.new("struct kvm_pre_fault_memory *", {"gpa": gpa, "size": size})
        self.set_struct("KVM_PRE_FAULT_MEMORY", struct)
        return int(struct.size)

    # Machine checks

    def x86_setup_mce(self, mcg_cap: int) -> None:
        """Sets IA32_MCG_CAP: the number of banks and what x86_get_mce_cap_supported() allows."""
        self.set_struct("KVM_X86_SETUP_MCE", mcg_cap)

    def x86_set_mce(self, mce: Any) -> None:
        """Injects a machine check: ``struct kvm_x86_mce``, for example ``{"status": ..., "bank": 1}``."""
        self.set_struct("KVM_X86_SET_MCE", mce)

    # The task-priority register

    def tpr_access_reporting(self, *, enabled: bool) -> None:
        """Whether accesses to the local APIC's TPR give KVM_EXIT_TPR_ACCESS, and its register is at the vapic page."""
        self.set_struct("KVM_TPR_ACCESS_REPORTING", {"enabled": int(enabled)})

    def set_vapic_addr(self, gpa: int) -> None:
        """Where the kernel keeps the TPR for the guest; 0 for nowhere."""
        self.set_struct("KVM_SET_VAPIC_ADDR", {"vapic_addr": gpa})

    # State by register id

    def get_one_reg(self, register: int) -> int:
        """A register by its id, which :class:`kvmharness.abi.features.Register` helps to make. On x86 since 6.18."""
        value = ffi.new("__u64 *")
        self.set_struct("KVM_GET_ONE_REG", (register, int(ffi.cast("uintptr_t", value))))
        return int(value[0])

    def set_one_reg(self, register: int, value: int) -> None:
        """Sets one of 64 bits."""
        word = ffi.new("__u64 *", value)
        self.set_struct("KVM_SET_ONE_REG", (register, int(ffi.cast("uintptr_t", word))))

    def get_reg_list(self) -> list[int]:
        """The ids that there are, besides those of MSRs."""
        return read_reg_list(self.handle)

    # CPUID as KVM first had it, and Hyper-V's

    def set_cpuid(self, entries: list[CpuidEntry]) -> None:
        """As set_cpuid2(), without subleaves: an entry's index and flags are left out."""
        rows = [(e.function, e.eax, e.ebx, e.ecx, e.edx) for e in entries]
        op = IOCTLS["KVM_SET_CPUID"]
        ioctl(self.handle, op, pack_list(op, "nent", "entries", rows))

    def get_supported_hv_cpuid(self) -> list[CpuidEntry]:
        """The CPUID leaves of Hyper-V's interface that KVM can give this vCPU. Needs KVM_CAP_HYPERV_CPUID."""
        return cpuid_entries(read_cpuid(self.handle, IOCTLS["KVM_GET_SUPPORTED_HV_CPUID"]))

    # Xen: constants in kvmharness.abi.xen

    def xen_vcpu_get_attr(self, kind: int) -> Any:
        """One XenVcpuAttr, ``struct kvm_xen_vcpu_attr *``."""
        op = IOCTLS["KVM_XEN_VCPU_GET_ATTR"]
        struct = ffi.new(op.pointer, {"type": kind})
        ioctl(self.handle, op, struct)
        return struct

    def xen_vcpu_set_attr(self, attr: Any) -> None:
        """Sets one, for example ``{"type": XenVcpuAttr.VCPU_INFO, "u": {"gpa": 0x5000}}``."""
        self.set_struct("KVM_XEN_VCPU_SET_ATTR", attr)
