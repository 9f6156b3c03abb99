"""A guest as bytes: all that has to be computed is, so that who builds it makes ioctls and nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any

from kvmharness.lean.dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A VM of one vCPU and one memslot.

    Attributes:
        gpa, size_bytes: of its memory.
        pages: gpa -> what lies there; the rest is zero.
        msrs: set on the vCPU, in this order.
        sregs, regs: ``struct kvm_sregs`` and ``struct kvm_regs`` of the vCPU, as bytes.
    """

    gpa: int
    size_bytes: int
    pages: Mapping[int, bytes]
    msrs: Mapping[int, int]
    sregs: bytes
    regs: bytes

    def to_json(self) -> dict[str, Any]:
        """Plain data, small: of each page what is not zero."""
        pieces = _trimmed(self.pages)
        return {
            "memory": [self.gpa, self.size_bytes],
            "at": [[gpa, len(data)] for gpa, data in pieces],
            "data": b"".join(data for _, data in pieces).hex(),
            "msrs": [[int(index), int(value)] for index, value in self.msrs.items()],
            "sregs": self.sregs.hex(),
            "regs": self.regs.hex(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Blueprint":
        """The inverse of :meth:`to_json`, but for zeros at the ends of pages."""
        raw = bytes.fromhex(data["data"])
        pages: dict[int, bytes] = {}
        start = 0
        for gpa, length in data["at"]:
            pages[gpa] = raw[start : start + length]
            start += length
        gpa, size_bytes = data["memory"]
        sregs, regs = bytes.fromhex(data["sregs"]), bytes.fromhex(data["regs"])
        return cls(gpa, size_bytes, pages, dict(data["msrs"]), sregs, regs)


_PAGE_BYTES = 0x1000


def _trimmed(pages: Mapping[int, bytes]) -> Sequence[tuple[int, bytes]]:
    """Each page from its first to its last byte that is not zero."""
    pieces = []
    for gpa, data in pages.items():
        for start in range(0, len(data), _PAGE_BYTES):
            page = data[start : start + _PAGE_BYTES].rstrip(b"\0")
            inner = page.lstrip(b"\0")
            if inner:
                pieces.append((gpa + start + len(page) - len(inner), inner))
    return pieces
