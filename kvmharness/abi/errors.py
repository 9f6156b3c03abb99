"""What a refused system call becomes: one message with the call, the errno, its meaning, and the next step."""

import errno as _errno
from os import strerror

from kvmharness.errors import HostRequirementError, KvmHarnessError

_HINTS = {
    (
        "KVM_CREATE_VM",
        _errno.EBUSY,
    ): "another hypervisor (VirtualBox, VMware) holds the CPU's virtualization: stop its VMs, unload its module",
    ("KVM_CREATE_VM", _errno.EINVAL): "this host has no such VM type: 0 is the ordinary one",
    ("KVM_CREATE_VCPU", _errno.EEXIST): "the VM already has a vCPU with this id",
    ("KVM_CREATE_VCPU", _errno.EINVAL): "the id is beyond KVM_CAP_MAX_VCPU_ID, or the VM has KVM_CAP_MAX_VCPUS vCPUs",
    ("KVM_SET_USER_MEMORY_REGION", _errno.EEXIST): "the range overlaps another memslot's: delete that one first",
    ("KVM_SET_USER_MEMORY_REGION", _errno.EINVAL): "gpa, hva and size must be page aligned, the slot below "
    "KVM_CAP_NR_MEMSLOTS; a slot's size and READONLY flag cannot be changed, only deleted",
    ("KVM_CREATE_IRQCHIP", _errno.EEXIST): "the VM has its interrupt controllers already",
    ("KVM_CREATE_IRQCHIP", _errno.EINVAL): "create the interrupt controllers before the first vCPU",
    (
        "KVM_GET_LAPIC",
        _errno.EINVAL,
    ): "the local APIC is in the kernel only after create_irqchip() or KVM_CAP_SPLIT_IRQCHIP",
    (
        "KVM_SET_LAPIC",
        _errno.EINVAL,
    ): "the local APIC is in the kernel only after create_irqchip() or KVM_CAP_SPLIT_IRQCHIP",
    ("KVM_CREATE_PIT2", _errno.ENOENT): "the PIT needs create_irqchip() first",
    (
        "KVM_SET_CPUID2",
        _errno.EINVAL,
    ): "after the first KVM_RUN only an identical CPUID is accepted, and no impossible one ever",
    ("KVM_SET_SREGS", _errno.EINVAL): "CR0, CR3, CR4 and EFER contradict each other or this vCPU's CPUID",
    ("KVM_SET_SREGS2", _errno.EINVAL): "CR0, CR3, CR4 and EFER contradict each other or this vCPU's CPUID",
    (
        "KVM_SET_NESTED_STATE",
        _errno.EINVAL,
    ): "give the vCPU its CPUID and feature MSRs first; format and size must be the vendor's",
    ("KVM_INTERRUPT", _errno.ENXIO): "with interrupt controllers in the kernel, raise an interrupt with KVM_IRQ_LINE",
    ("KVM_RUN", _errno.EAGAIN): "the vCPU waits for INIT and SIPI: set_mp_state(MpState.RUNNABLE) starts it at once",
    ("KVM_RUN", _errno.EFAULT): "guest memory is not mapped in this process any more, or a page of it cannot be had",
    ("KVM_RUN", _errno.EINVAL): "the vCPU's state is one that the processor refuses, see the registers last set",
    ("KVM_GET_DIRTY_LOG", _errno.ENOENT): "set MemFlag.LOG_DIRTY_PAGES on the memslot first",
    (
        "KVM_MEMORY_ENCRYPT_OP",
        _errno.ENOTTY,
    ): "it takes a processor, a firmware and a module parameter that allow it",
    ("KVM_RESET_DIRTY_RINGS", _errno.EINVAL): "enable KVM_CAP_DIRTY_LOG_RING on the VM before its first vCPU",
    ("KVM_CREATE_DEVICE", _errno.ENODEV): "this KVM has no such device",
    ("KVM_CLEAR_DIRTY_LOG", _errno.ENXIO): "enable KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 on the VM first",
}

_GENERAL_HINTS = {
    _errno.ENOTTY: "this kernel is too old for it, or was built without it",
    _errno.EIO: "the VM was created by another process (a fork?), or is marked dead after a bug: see dmesg",
    _errno.EBADF: "the object is closed already",
    _errno.ENOMEM: "free memory, or give the VM less; for locked memory see `ulimit -l`",
    _errno.EMFILE: "raise the limit of open files: `ulimit -n`",
    _errno.EPERM: "run as root, or with the capability it needs",
}


# Of this process or this machine: a kernel is not wrong to refuse beyond them.
_LIMITS = (_errno.EMFILE, _errno.ENFILE)


def described(errno: int) -> str:
    """An errno by its name, its number and its text."""
    return f"{_errno.errorcode.get(errno, 'errno')} ({errno}): {strerror(errno)}"


class SystemCallError(KvmHarnessError, OSError):
    """A system call that failed.

    Attributes:
        errno, strerror: as in OSError.
        call: what was called.
    """

    def __init__(self, call: str, errno: int, hint: str = "") -> None:
        super().__init__(f"{call}: {described(errno)}", hint)
        self.call = call
        self.errno = errno
        self.strerror = strerror(errno)

    def __str__(self) -> str:
        return str(self.args[0])


def met_a_limit(error: Exception) -> bool:
    """Whether a system call failed for want of what this process may have, which says nothing of the kernel."""
    return isinstance(error, SystemCallError) and error.errno in _LIMITS


class IoctlError(SystemCallError):
    """An ioctl that the kernel refused.

    Attributes:
        ioctl: its name, for example "KVM_CREATE_VM".
    """

    def __init__(self, ioctl: str, errno: int, detail: str = "", capability: str = "") -> None:
        hint = _HINTS.get((ioctl, errno)) or _GENERAL_HINTS.get(errno, "")
        if errno == _errno.ENOTTY and capability:
            hint = f"{hint}; it comes with {capability}"
        super().__init__(f"{ioctl} {detail}".rstrip(), errno, hint)
        self.ioctl = ioctl


class MissingCapabilityError(IoctlError):
    """An ioctl that the kernel refused, where it says that it has not the capability that the ioctl comes with.

    Attributes:
        capability: for example "KVM_CAP_XEN_HVM".
    """

    def __init__(self, ioctl: str, errno: int, detail: str, capability: str) -> None:
        super().__init__(ioctl, errno, f"{detail}, without {capability}".lstrip(", "))
        self.hint = (
            f"this KVM does not have {capability}: ask check_extension() first; to have it takes another kernel, "
            "kernel option, module parameter or processor"
        )
        self.capability = capability


class ArgumentError(KvmHarnessError, ValueError, TypeError):
    """What a call was to be made with, or on, cannot be: the kernel was not called.

    A number is too large for its field, a value is of another kind, an object is closed. Whoever expects Python's own
    error for that catches it as well.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, "give what the method's documentation names")


class DeviceError(HostRequirementError):
    """``/dev/kvm`` cannot be opened, or is not what it should be.

    Attributes:
        errno: of open(2), or 0.
    """

    def __init__(self, message: str, hint: str = "", errno: int = 0) -> None:
        super().__init__(message, hint)
        self.errno = errno


class MsrError(KvmHarnessError):
    """KVM refused one of a list of MSRs; those before it were read or written.

    Attributes:
        index: the MSR.
    """

    def __init__(self, ioctl: str, index: int, value: int | None = None) -> None:
        what = f"MSR {index:#x}" if value is None else f"MSR {index:#x} = {value:#x}"
        hint = "the vCPU's CPUID does not have the feature, or the value has reserved bits; dmesg names the MSR"
        super().__init__(f"{ioctl} refused {what}", hint)
        self.index = index
