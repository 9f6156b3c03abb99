"""Exits after which a guest cannot go on, as errors that keep the raw fields."""

from kvmharness.errors import GuestError
from kvmharness.kvm.exits import Exit, FailEntryExit, HardwareUnknownExit, InternalErrorExit, ShutdownExit
from kvmharness.vendors.names import VMX


class GuestShutdownError(GuestError):
    """The guest triple-faulted."""


class EntryFailureError(GuestError):
    """The processor refused the guest state.

    Attributes:
        exit: with `hardware_entry_failure_reason`.
    """

    def __init__(self, exit_: FailEntryExit) -> None:
        reason = exit_.hardware_entry_failure_reason
        super().__init__(
            f"the processor refused to enter the guest: reason {reason:#x} on CPU {exit_.cpu}",
            f"the vCPU's registers are inconsistent; with {VMX.module}.dump_invalid_vmcs=1 the kernel prints the VMCS",
        )
        self.exit = exit_


class KvmInternalError(GuestError):
    """KVM could not go on.

    Attributes:
        exit: with `suberror`, `data` and the instruction's bytes.
    """

    def __init__(self, exit_: InternalErrorExit | HardwareUnknownExit) -> None:
        if isinstance(exit_, HardwareUnknownExit):
            text = f"KVM does not know hardware exit reason {exit_.hardware_exit_reason:#x}"
        else:
            words = " ".join(f"{word:#x}" for word in exit_.data)
            text = f"KVM internal error {exit_.kind}: data {words or 'none'}"
            if exit_.instruction:
                text += f", instruction bytes {exit_.instruction.hex(' ')}"
        super().__init__(text)
        self.exit = exit_


def raise_if_fatal(exit_: Exit) -> None:
    """Raises the matching error when the guest cannot be resumed after this exit.

    Raises:
        GuestShutdownError: a triple fault.
        EntryFailureError: the processor refused the guest state.
        KvmInternalError: KVM gave up.
    """
    if isinstance(exit_, ShutdownExit):
        raise GuestShutdownError(
            "the guest shut down: a triple fault", "an exception without a usable handler, IDT or stack"
        )
    if isinstance(exit_, FailEntryExit):
        raise EntryFailureError(exit_)
    if isinstance(exit_, InternalErrorExit | HardwareUnknownExit):
        raise KvmInternalError(exit_)
