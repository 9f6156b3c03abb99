"""What a litmus guest rings its doorbell for, and the words that its pages and userspace answer with."""

END = 0x10  # the last row is done
SWITCH = 0x11  # the other vCPU's turn
HOST = 0x12  # the host's next step
INTERRUPT = 0x13  # wanted now, while IF = 1

DATA_SLOT = 1
VECTOR = 0x1F  # of the interrupt that the host injects
# In a page. What is written to is page aligned: Bochs logs the very address to the PML buffer, and KVM wants a page's.
WRITTEN_AT = 0
TAG_AT = 8
MOVED = 0x100_0000  # in the tags of the memory that a memslot is moved to
MMIO = 0x200_0000  # in what a read from where there is no memory gives, with the page's number

TAG_SHIFT = 8  # in the word below
_CODE_TAIL = bytes.fromhex("ffe200")  # jmp rdx


def page_word(tag: int) -> int:
    """What lies in a page: code that gives its tag, which can also be read."""
    return int.from_bytes(b"\xb8" + tag.to_bytes(4, "little") + _CODE_TAIL, "little")
