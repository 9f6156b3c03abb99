"""What a litmus guest rings its doorbell for, and the tags of what userspace answers."""

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
