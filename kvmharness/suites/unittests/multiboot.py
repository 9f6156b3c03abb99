"""Reads an image that a multiboot loader can boot: what of the file goes where, and where it begins.

Source: Multiboot Specification 0.6.96, "3.1.1 The layout of Multiboot header"; System V ABI, "ELF Header" and "Program
Header".
"""

import struct
from dataclasses import dataclass

"""No image is larger."""

_HEADER_MAGIC = 0x1BADB002
_SEARCHED_BYTES = 8192  # the header lies in them, on a boundary of 4
_MANDATORY = 0xFFFF  # flags that a loader must know, or refuse the image
_UNDERSTOOD = 0x3  # of these: modules on page boundaries, and information about memory
_ADDRESSES = 1 << 16

_ELF_HEADER = struct.Struct("<4sBBBBB7xHHIIIIIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<8I")
_ELFCLASS32, _ELFDATA2LSB, _ET_EXEC, _EM_386, _PT_LOAD = 1, 1, 2, 3, 1


class NotBootableError(ValueError):
    """The file is none that can be booted; its text says why."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What goes where.

    Attributes:
        offset, size: in the file, in bytes.
        gpa: where it goes.
        memory_bytes: how much it takes there; the rest is zero.
    """

    offset: int
    size: int
    gpa: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Bootable:
    """An image.

    Attributes:
        segments: in the file's order.
        entry: gpa of the first instruction.
    """

    segments: tuple[Segment, ...]
    entry: int

    @property
    def end(self) -> int:
        """The gpa behind all of it."""
        return max(segment.gpa + segment.memory_bytes for segment in self.segments)


def read(data: bytes) -> Bootable:
    """Reads an image.

    Raises:
        NotBootableError: it is no ELF file for 32-bit processors with a multiboot header, or damaged.
    """
    flags = _header_flags(data)
    if flags & _MANDATORY & ~_UNDERSTOOD:
        raise NotBootableError(f"its multiboot header asks for more than is known here (flags {flags:#x})")
    if flags & _ADDRESSES:
        raise NotBootableError("it is loaded by the addresses in its multiboot header, not as ELF")
    return _elf(data)


def _header_flags(data: bytes) -> int:
    for at in range(0, min(len(data), _SEARCHED_BYTES) - 11, 4):
        magic, flags, checksum = struct.unpack_from("<3I", data, at)
        if magic == _HEADER_MAGIC and (magic + flags + checksum) & 0xFFFF_FFFF == 0:
            return int(flags)
    raise NotBootableError(f"there is no multiboot header in its first {_SEARCHED_BYTES} bytes")


def _elf(data: bytes) -> Bootable:
    if len(data) < _ELF_HEADER.size or data[:4] != b"\x7fELF":
        raise NotBootableError("it is no ELF file")
    fields = _ELF_HEADER.unpack_from(data)
    _, kind, order, _, _, _, type_, machine, _, entry, headers_at, _, _, _, header_bytes, headers, *_ = fields
    if (kind, order, type_, machine) != (_ELFCLASS32, _ELFDATA2LSB, _ET_EXEC, _EM_386):
        raise NotBootableError("it is no ELF executable for 32-bit x86 processors")
    if header_bytes != _PROGRAM_HEADER.size or headers_at + headers * header_bytes > len(data):
        raise NotBootableError("its program headers are not all there")
    segments = []
    for number in range(headers):
        type_, offset, _, gpa, size, memory_bytes, *_ = _PROGRAM_HEADER.unpack_from(
            data, headers_at + number * header_bytes
        )
        if type_ != _PT_LOAD or not memory_bytes:
            continue
        if offset + size > len(data) or size > memory_bytes or gpa + memory_bytes > 1 << 32:
            raise NotBootableError(f"its segment {number} does not lie in the file, or goes beyond 4 GiB")
        segments.append(Segment(offset, size, gpa, memory_bytes))
    if not any(segment.gpa <= entry < segment.gpa + segment.memory_bytes for segment in segments):
        raise NotBootableError(f"its entry {entry:#x} lies in none of its segments")
    return Bootable(tuple(segments), entry)
