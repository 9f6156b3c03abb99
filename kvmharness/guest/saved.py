"""A vCPU's state as userspace saves it, and as it goes into the same vCPU or into another one."""

from collections.abc import Collection

from kvmharness.abi.constants import Cap
from kvmharness.kvm.vcpu import Vcpu
from kvmharness.x86.msr import Msr

_COPIED = ("KVM_{}_SREGS", "KVM_{}_REGS", "KVM_{}_DEBUGREGS")  # no guest here changes any other
_EVENT_FLAGS = 0  # what is pending is taken as it is; nothing optional


def settle(vcpu: Vcpu) -> None:
    """Lets KVM end the instruction that the last exit interrupted. Source: api.rst, "KVM_RUN"."""
    vcpu.kvm_run.immediate_exit = 1
    vcpu.run(resume=False)


class SavedVcpu:
    """All of a vCPU that a guest can change.

    Args:
        vcpu: settled.
        msrs: that its guest was given.
    """

    def __init__(self, vcpu: Vcpu, msrs: Collection[int]) -> None:
        nested = bool(vcpu.kvm.check_extension(Cap.NESTED_STATE))
        self._structs = {name: vcpu.get_struct(name.format("GET")) for name in _COPIED}
        wanted = [*msrs, *([Msr.VM_HSAVE_PA] if nested and not msrs else [])]
        self._msrs = vcpu.get_msrs(wanted) if wanted else {}
        self._nested = vcpu.get_nested_state() if nested else b""
        self._events = vcpu.get_struct("KVM_GET_VCPU_EVENTS")

    def put(self, vcpu: Vcpu) -> None:
        """Makes it the state of a vCPU.

        Raises:
            IoctlError: KVM refuses it.
        """
        if self._msrs:
            vcpu.set_msrs(self._msrs)
        for name, struct in self._structs.items():
            vcpu.set_struct(name.format("SET"), struct)
        if self._nested:
            vcpu.set_nested_state(self._nested)
        self._events.flags = _EVENT_FLAGS
        vcpu.set_struct("KVM_SET_VCPU_EVENTS", self._events)
