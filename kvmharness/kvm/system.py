"""The device ``/dev/kvm``, opened: where VMs come from."""

import errno
from weakref import ref

from kvmharness.abi.binding import IOCTLS, ioctl, lib, open_file
from kvmharness.abi.constants import KVM_API_VERSION
from kvmharness.abi.errors import DeviceError, described
from kvmharness.kvm.arguments import typed_errors
from kvmharness.kvm.device import DEVICE, Device
from kvmharness.kvm.vm import Vm
from kvmharness.vendors.names import NAMES

_CREATE_VM = IOCTLS["KVM_CREATE_VM"]

_JOIN_GROUP = "join the group that owns it (usually `sudo adduser $USER kvm`, then log in again), or run as root"
_LOAD_MODULE = " or ".join(f"`sudo modprobe {vendor.module}`" for vendor in NAMES)
_HINTS = {
    errno.EACCES: _JOIN_GROUP,
    errno.EPERM: _JOIN_GROUP,
    errno.ENOENT: f"{_LOAD_MODULE}; if that fails, enable {' or '.join(vendor.firmware for vendor in NAMES)} in the "
    "BIOS, or nested virtualization in the hypervisor that this machine runs on",
    errno.ENODEV: f"{_LOAD_MODULE}: the device node is there, its driver is not",
    errno.ENXIO: f"{_LOAD_MODULE}: the device node is there, its driver is not",
    errno.EMFILE: "raise the limit of open files: `ulimit -n`",
}


def cannot_open(path: str, code: int) -> DeviceError:
    """For an open(2) of the device that failed with an errno."""
    return DeviceError(f"cannot open {path}: {described(code)}", _HINTS.get(code, ""), code)


@typed_errors
class Kvm(Device):
    """The open device; a context manager. Closing it closes its VMs first."""

    __slots__ = ("_vms",)

    def __init__(self, number: int, path: str = DEVICE) -> None:
        super().__init__(number, path)
        # By fd, which only a later VM can have again. Weak: a VM that its user dropped without closing warns at once,
        # not when the device is closed.
        self._vms: dict[int, ref[Vm]] = {}

    @classmethod
    def open(cls, path: str = DEVICE) -> "Kvm":
        """Opens the device.

        Raises:
            DeviceError: it is missing, not permitted, or not KVM's.
        """
        number, code = open_file(path, lib.O_RDWR)
        if code:
            raise cannot_open(path, code)
        kvm = cls(number, path)
        try:
            version = kvm.get_api_version()
            if version != KVM_API_VERSION:
                raise DeviceError(f"{path} speaks API version {version}, not {KVM_API_VERSION}")
        except OSError as error:
            kvm.close()
            raise DeviceError(f"{path} is not KVM: {error}", "give the path of KVM's device node") from error
        except BaseException:
            kvm.close()
            raise
        return kvm

    def create_vm(self, vm_type: int = 0) -> Vm:
        """A VM without memory, vCPUs or devices."""
        number = ioctl(self.handle, _CREATE_VM, vm_type)
        vm = Vm(number, self)
        self._vms[number] = ref(vm)
        return vm

    def close(self) -> None:
        """Closes the VMs that are still open, then the device; harmless when called again."""
        for reference in self._vms.values():
            vm = reference()
            if vm is not None:
                vm.close()
        self._vms.clear()
        super().close()
