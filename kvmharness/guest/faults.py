"""Exceptions of a program that has no handlers of its own: they lead to ``faults.asm``, and from there to the host.

The handlers touch no register, and have a stack of their own, so whatever the program did to its own: the host finds
what the processor has pushed, and puts the guest back to where it was stopped.
"""

from struct import Struct

from kvmharness.errors import GuestError
from kvmharness.guest.image import Image
from kvmharness.guest.layout import Place, Port
from kvmharness.kvm.exits import Exit, IoExit
from kvmharness.kvm.memory import Memory
from kvmharness.kvm.vcpu import Vcpu
from kvmharness.x86.exceptions import WITH_ERROR_CODE, Vector, vector_name

VCPUS_MAX = 8
"""How many vCPUs there are stacks for."""

_HANDLER_BYTES = 3  # see guests/faults.asm
_STACKS_TOP = int(Place.MAILBOX)  # the end of the page that the descriptors are in
_STACK_BYTES = 0x40
_FRAME = Struct("<QQQQQ")  # RIP, CS, RFLAGS, RSP, SS


class GuestFault(GuestError):
    """A guest took an exception, and has no handler for it.

    Attributes:
        vector: its number, a :class:`kvmharness.x86.exceptions.Vector` where that has a name.
        error_code: None for a vector that has none.
        rip: of the instruction at fault; for a trap, of the one behind it.
        cr2: the address at fault of a page fault; None otherwise.
    """

    def __init__(self, vector: int, error_code: int | None, rip: int, cr2: int | None, where: str) -> None:
        text = f"the guest took {vector_name(vector)} at {rip:#x}{where}"
        if error_code is not None:
            text += f", error code {error_code:#x}"
        if cr2 is not None:
            text += f", CR2 {cr2:#x}"
        super().__init__(text, "A program with the label exception_vectors handles its exceptions itself.")
        self.vector, self.error_code, self.rip, self.cr2 = vector, error_code, rip, cr2


def handlers() -> dict[int, int]:
    """Vector -> gpa of its handler."""
    return {vector: Place.FAULTS + _HANDLER_BYTES * vector for vector in range(32)}


def stack_top(vcpu: int) -> int:
    """Where the stack of a vCPU's exceptions begins."""
    return _STACKS_TOP - _STACK_BYTES * vcpu


def fault(found: Exit, vcpu: Vcpu, memory: Memory, image: Image) -> GuestFault | None:
    """The exception that an exit tells of, None for any other exit; the vCPU stands where it was stopped afterwards."""
    if not isinstance(found, IoExit) or found.port != Port.FAULT:
        return None
    regs = vcpu.get_regs()
    number, inside = divmod(regs.rip - Place.FAULTS, _HANDLER_BYTES)
    if number not in handlers() or inside == 1:  # the program's own OUT
        return None
    frame = stack_top(vcpu.id) - _FRAME.size
    rip, _, rflags, rsp, _ = _FRAME.unpack(memory.read(frame, _FRAME.size))
    vcpu.set_regs(regs.replace(rip=rip, rflags=rflags, rsp=rsp))
    vector = Vector(number) if number in set(Vector) else number
    code = memory.read_u64(frame - 8) if vector in WITH_ERROR_CODE else None
    cr2 = vcpu.get_sregs().cr2 if vector == Vector.PF else None
    inside_image = image.origin <= rip < image.origin + len(image.code)
    return GuestFault(vector, code, rip, cr2, f" ({image.name}:{image.symbol_at(rip)})" if inside_image else "")
