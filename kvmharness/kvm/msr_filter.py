"""Filters of MSRs, as KVM_X86_SET_MSR_FILTER takes them. Source: api.rst, "KVM_X86_SET_MSR_FILTER"."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from kvmharness.abi.binding import ArgumentError, ffi
from kvmharness.abi.features import MsrFilter, MsrFilterDefault, MsrFilterLimit

_BITS = 8


class MsrRange(NamedTuple):
    """What guests may do to MSRs one after the other.

    Attributes:
        base: the first MSR.
        allowed: for it and those after it, whether what `flags` says is allowed.
        flags: reads, writes, or both; what is not named here follows the filter's default.
    """

    base: int
    allowed: tuple[bool, ...]
    flags: MsrFilter = MsrFilter.READ | MsrFilter.WRITE


class MsrFilterStruct:
    """``struct kvm_msr_filter`` with the bitmaps that it points to: they live as long as this does.

    Attributes:
        pointer: what :meth:`kvmharness.kvm.vm_requests.VmRequests.x86_set_msr_filter` takes; the kernel copies it.
    """

    __slots__ = ("_bitmaps", "pointer")

    def __init__(self, ranges: Iterable[MsrRange], default: MsrFilterDefault = MsrFilterDefault.ALLOW) -> None:
        """Packs them.

        Args:
            ranges: at most 16; without any of them and with ALLOW there is no filter at all.
            default: for MSRs that are in no range.

        Raises:
            ArgumentError: too many ranges, or one without MSRs or longer than a bitmap may be.
        """
        rows = list(ranges)
        if len(rows) > MsrFilterLimit.RANGES:
            raise ArgumentError(f"{len(rows)} ranges of MSRs: a filter has at most {MsrFilterLimit.RANGES:d}")
        self.pointer: Any = ffi.new("struct kvm_msr_filter *", {"flags": default})
        self._bitmaps = [_bitmap(row) for row in rows]
        for target, row, bitmap in zip(self.pointer.ranges, rows, self._bitmaps, strict=False):
            target.flags, target.base, target.nmsrs, target.bitmap = row.flags, row.base, len(row.allowed), bitmap


def _bitmap(row: MsrRange) -> Any:
    if not 1 <= len(row.allowed) <= MsrFilterLimit.BITMAP_SIZE * _BITS:
        most = MsrFilterLimit.BITMAP_SIZE * _BITS
        raise ArgumentError(f"a range of {len(row.allowed)} MSRs from {row.base:#x}: it must be 1 to {most}")
    bits = sum(1 << number for number, allowed in enumerate(row.allowed) if allowed)
    return ffi.new("__u8[]", bits.to_bytes((len(row.allowed) + _BITS - 1) // _BITS, "little"))
