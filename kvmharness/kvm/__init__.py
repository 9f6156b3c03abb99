"""Objects over the ioctls, one file a level: the device, VMs, vCPUs, exits, and who owns which fd and mapping."""

from kvmharness.abi.constants import Cap, ExitReason, MemFlag
from kvmharness.abi.errors import DeviceError, IoctlError, MsrError
from kvmharness.kvm.memory import Memory
from kvmharness.kvm.state import Regs, Sregs
from kvmharness.kvm.system import Kvm
from kvmharness.kvm.vcpu import Vcpu
from kvmharness.kvm.vm import Vm

__all__ = [
    "Cap",
    "DeviceError",
    "ExitReason",
    "IoctlError",
    "Kvm",
    "MemFlag",
    "Memory",
    "MsrError",
    "Regs",
    "Sregs",
    "Vcpu",
    "Vm",
]
