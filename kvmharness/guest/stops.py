"""How a guest stops that should have gone on, as whoever drives it sees it: an exit it does not have, or its mailbox.

What a mailbox means takes knowledge of the vendor's architecture: :mod:`kvmharness.guest.failures` has that.
"""

from kvmharness.errors import GuestError
from kvmharness.guest.layout import Mailbox
from kvmharness.kvm.exits import Exit, HltExit

MAILBOX_BYTES = 0x100


class GuestFailedError(GuestError):
    """A guest rang the FAIL doorbell.

    Attributes:
        mailbox: its bytes, for :func:`kvmharness.guest.failures.explain`.
    """

    def __init__(self, mailbox: bytes) -> None:
        super().__init__(f"the guest failed with the code {word(mailbox, Mailbox.ERROR)}")
        self.mailbox = mailbox


def word(mailbox: bytes, offset: Mailbox) -> int:
    """One word of a mailbox."""
    return int.from_bytes(mailbox[offset : offset + 8], "little")


class UnexpectedExit(GuestError):
    """The guest left to user space for a reason that its program does not have.

    Attributes:
        exit: what KVM_RUN came back with.
    """

    def __init__(self, exit_: Exit, wanted: str) -> None:
        if isinstance(exit_, HltExit):
            text = f"the guest halted where {wanted} belongs"
        else:
            text = f"the guest left with {exit_} where {wanted} belongs"
        super().__init__(text, "Its program's header says which exits it makes; api.rst explains the reason.")
        self.exit = exit_
