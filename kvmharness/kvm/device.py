"""What ``/dev/kvm`` answers about itself: capabilities, CPUID, MSRs."""

from collections.abc import Iterable
from typing import Any

from kvmharness.abi.binding import IOCTLS, SYSTEM, Ioctl, ioctl
from kvmharness.abi.constants import Cap
from kvmharness.kvm.arguments import typed_errors
from kvmharness.kvm.lists import CpuidEntry, cpuid_entries, get_msrs, read_cpuid, read_msr_list
from kvmharness.kvm.resources import FdHolder, Level

DEVICE = "/dev/kvm"


@typed_errors
class Device(Level):
    """The open device, as VMs and vCPUs know it; :class:`kvmharness.kvm.system.Kvm` makes VMs as well.

    Each method named as an ioctl is that ioctl, and raises IoctlError when the kernel refuses, ArgumentError when it
    cannot be asked.

    Attributes:
        handle: the fd with its owner.
    """

    __slots__ = ("_entries", "_mmap_size", "_supported")

    def __init__(self, number: int, path: str = DEVICE) -> None:
        self.handle = FdHolder(number, SYSTEM, path)
        self._mmap_size = 0
        self._supported: Any = None
        self._entries: list[CpuidEntry] = []

    def get_api_version(self) -> int:
        """Always 12."""
        return self.system_ioctl("KVM_GET_API_VERSION")

    def check_extension(self, cap: int | Cap) -> int:
        """What the host has of a capability: 0 for nothing, otherwise 1, or a number or mask with its own meaning."""
        return self.system_ioctl("KVM_CHECK_EXTENSION", cap)

    def get_vcpu_mmap_size(self) -> int:
        """Length in bytes of what mmap() of a vCPU fd shares."""
        if not self._mmap_size:
            self._mmap_size = self.system_ioctl("KVM_GET_VCPU_MMAP_SIZE")
        return self._mmap_size

    def supported_cpuid(self) -> Any:
        """The supported CPUID as ``struct kvm_cpuid2 *``, asked once. Not to be changed."""
        if self._supported is None:
            self._supported = read_cpuid(self.handle, IOCTLS["KVM_GET_SUPPORTED_CPUID"])
        return self._supported

    def get_supported_cpuid(self) -> list[CpuidEntry]:
        """What KVM can give a guest as CPUID, on this processor."""
        if not self._entries:
            self._entries = cpuid_entries(self.supported_cpuid())
        return list(self._entries)

    def get_emulated_cpuid(self) -> list[CpuidEntry]:
        """What KVM emulates though the processor does not have it, and so is not in get_supported_cpuid()."""
        return cpuid_entries(read_cpuid(self.handle, IOCTLS["KVM_GET_EMULATED_CPUID"]))

    def get_supported_hv_cpuid(self) -> list[CpuidEntry]:
        """The CPUID leaves of Hyper-V's interface that KVM can give. Needs KVM_CAP_SYS_HYPERV_CPUID."""
        return cpuid_entries(read_cpuid(self.handle, IOCTLS["KVM_GET_SUPPORTED_HV_CPUID"]))

    def x86_get_mce_cap_supported(self) -> int:
        """The bits of IA32_MCG_CAP that guests can have. Needs KVM_CAP_MCE."""
        return int(self.get_struct("KVM_X86_GET_MCE_CAP_SUPPORTED")[0])

    def get_msr_index_list(self) -> list[int]:
        """MSRs that make up a guest's state."""
        return self._msr_list(IOCTLS["KVM_GET_MSR_INDEX_LIST"])

    def get_msr_feature_index_list(self) -> list[int]:
        """MSRs that say what KVM supports, the VMX capabilities among them. Needs KVM_CAP_GET_MSR_FEATURES."""
        return self._msr_list(IOCTLS["KVM_GET_MSR_FEATURE_INDEX_LIST"])

    def get_feature_msrs(self, indices: Iterable[int]) -> dict[int, int]:
        """Values of feature MSRs: the most that a guest can be given. Raises: MsrError."""
        return get_msrs(self.handle, indices)

    def _msr_list(self, op: Ioctl) -> list[int]:
        return read_msr_list(self.handle, op)

    def system_ioctl(self, name: str, argument: int = 0) -> int:
        """An ioctl of the device that takes an integer."""
        return ioctl(self.handle, IOCTLS[name], argument)
