"""Objects over the ioctls, one file a level: the device, VMs, vCPUs, exits, and who owns which fd and mapping.

Begin with :meth:`Kvm.open`; what it opens makes a VM, that a vCPU, and each is a context manager that closes what was
made of it. A method is called as its ioctl is, in lower case, and takes and gives the kernel's structs as values.
:meth:`Vcpu.run` gives the exit as an object of :mod:`kvmharness.kvm.exits`. A guest, whole::

    from kvmharness.kvm import Kvm, Regs
    from kvmharness.kvm.exits import HltExit

    CODE = bytes.fromhex(
        "ba f8 03"  #         mov dx, 0x3f8
        "ee"        # again:  out dx, al
        "fe c0"     #         inc al
        "3c 7b"     #         cmp al, 'z' + 1
        "75 f9"     #         jne again
        "f4"        #         hlt
    )
    GPA = 0x1000

    with Kvm.open() as kvm, kvm.create_vm() as vm:
        vm.add_memory(0, 0x10000).write(GPA, CODE)
        vcpu = vm.create_vcpu()
        sregs = vcpu.get_sregs()
        vcpu.set_sregs(sregs.replace(cs=sregs.cs.replace(base=0, selector=0)))
        vcpu.set_regs(Regs(rip=GPA, rax=ord("a")))
        while not isinstance(reason := vcpu.run(), HltExit):
            print(reason.data.decode(), end="")
        print()

What programs are assembled and loaded by is :mod:`kvmharness.guest`.
"""

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
