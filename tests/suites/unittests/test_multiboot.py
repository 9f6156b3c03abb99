"""Images that boot, and files that do not: the multiboot header and ELF, each field as its specification has it."""

import struct

import pytest

from kvmharness.suites.unittests.multiboot import NotBootableError, Segment, read
from tests.suites.unittests.images import BASE, MULTIBOOT, elf


def header(flags, magic=0x1BADB002, off=0):
    """Multiboot Specification 0.6.96, "3.1.1": the three words add up to zero."""
    return struct.pack("<3I", magic, flags, (-(magic + flags) & 0xFFFF_FFFF) + off)


def test_an_image():
    found = read(elf(MULTIBOOT + b"\xf4", memory_bytes=0x2000))
    assert found.segments == (Segment(84, 13, BASE, 0x2000),)
    assert (found.entry, found.end) == (BASE + 12, BASE + 0x2000)


def test_the_header_may_lie_anywhere_in_the_first_8192_bytes_on_a_boundary_of_4():
    assert read(elf(bytes(8192 - 84 - 12) + MULTIBOOT)).entry == BASE + 12
    for before in (8192 - 84 - 8, 2):
        with pytest.raises(NotBootableError, match="no multiboot header in its first 8192 bytes"):
            read(elf(bytes(before) + MULTIBOOT))


def test_a_header_whose_words_do_not_add_up_is_none():
    with pytest.raises(NotBootableError, match="no multiboot header"):
        read(elf(header(0, off=1) + b"\xf4"))


@pytest.mark.parametrize("flags", [0x1, 0x2, 0x3])
def test_what_an_image_may_ask_for(flags):
    assert read(elf(header(flags) + b"\xf4")).entry


@pytest.mark.parametrize(("flags", "why"), [(0x4, "flags 0x4"), (0x8000, "flags 0x8000"), (0x1_0000, "not as ELF")])
def test_what_it_may_not(flags, why):
    with pytest.raises(NotBootableError, match=why):
        read(elf(header(flags) + b"\xf4"))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"kind": 2}, "32-bit x86"),  # ELFCLASS64
        ({"order": 2}, "32-bit x86"),  # ELFDATA2MSB
        ({"type": 3}, "32-bit x86"),  # ET_DYN
        ({"machine": 62}, "32-bit x86"),  # EM_X86_64
        ({"headers": 500}, "program headers are not all there"),
        ({"size": 5000, "memory": 5000}, "does not lie in the file"),
        ({"offset": 5000}, "does not lie in the file"),
        ({"memory": 2}, "segment 0"),
        ({"gpa": 0xFFFF_FFF0}, "beyond 4 GiB"),
        ({"entry": 0x1000}, "entry 0x1000 lies in none of its segments"),
    ],
)
def test_a_damaged_file_says_what_is_wrong(changes, why):
    with pytest.raises(NotBootableError, match=why):
        read(elf(MULTIBOOT + b"\xf4", **changes))


@pytest.mark.parametrize("data", [b"", b"\x7fELF", bytes(10_000), MULTIBOOT, MULTIBOOT + bytes(100)])
def test_what_is_no_image_at_all(data):
    with pytest.raises(NotBootableError):
        read(data)


def test_every_cut_of_an_image_is_refused_cleanly():
    whole = elf(MULTIBOOT + bytes(20))
    for length in range(len(whole)):
        with pytest.raises(NotBootableError):
            read(whole[:length])
