"""What /dev/kvm says of itself when it is opened: whether VMs can be made, and what their CPUs are offered."""

import errno
import os
import stat

from kvmharness.lean.dataclasses import dataclass

_STATES = {
    errno.ENOENT: "missing",
    errno.ENODEV: "missing",  # the node is there, its module is not
    errno.ENXIO: "missing",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EBUSY: "busy",
}
_CPUID_ENTRIES = 256


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What opening /dev/kvm came to.

    Attributes:
        state: "ok", "missing", "no permission", "busy" or "error".
        errno: of the call that failed, 0 when none did.
        path: of the device.
        guest_features: what KVM offers to guests, of the features that matter here and named as in /proc/cpuinfo;
            None when KVM could not be asked.
    """

    state: str
    errno: int = 0
    path: str = "/dev/kvm"
    guest_features: frozenset[str] | None = None

    @property
    def ok(self) -> bool:
        """Whether VMs can be made."""
        return self.state == "ok"


def probe(path: str) -> DeviceState:
    """Opens the device, and makes a VM and forgets it: only that tells of another hypervisor."""
    try:
        number = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        return _failed(e.errno or 0, path)
    try:
        # A file in its place is part of a machine that was described, not of one that runs.
        return _ask(number, path) if stat.S_ISCHR(os.fstat(number).st_mode) else DeviceState("ok", 0, path)
    finally:
        os.close(number)


def _failed(number: int, path: str) -> DeviceState:
    return DeviceState(_STATES.get(number, "error"), number, path)


def _ask(number: int, path: str) -> DeviceState:
    # Not at the top: the facts of a machine without the device need no binding.
    from kvmharness.abi.binding import IOCTLS, SYSTEM, Fd, ffi, ioctl_raw

    device = Fd(number, SYSTEM)
    vm, failure = ioctl_raw(device, IOCTLS["KVM_CREATE_VM"], 0)
    if failure:
        return _failed(failure, path)
    os.close(vm)
    table = ffi.new("struct kvm_cpuid2 *", {"nent": _CPUID_ENTRIES, "entries": _CPUID_ENTRIES})
    _, failure = ioctl_raw(device, IOCTLS["KVM_GET_SUPPORTED_CPUID"], table)
    if failure:
        return _failed(failure, path)
    leaves = {(entry.function, entry.index): entry for entry in table.entries[0 : table.nent]}
    return DeviceState("ok", 0, path, _offered(leaves))


def _offered(leaves: dict[tuple[int, int], object]) -> frozenset[str]:
    from kvmharness.x86.cpuid import Feature

    wanted = (Feature.VMX, Feature.SVM, Feature.PCID, Feature.INVPCID)
    return frozenset(
        feature.name.lower()
        for feature in wanted
        if getattr(leaves.get((feature.leaf, feature.subleaf)), feature.register, 0) & feature.mask
    )
