"""KVM's binary statistics: every descriptor with its unit, and all values in one read.

Source: Documentation/virt/kvm/api.rst, "KVM_GET_STATS_FD".
"""

import os
from collections.abc import Mapping, Sequence
from enum import IntEnum
from functools import cache
from itertools import pairwise
from operator import sub
from struct import Struct
from typing import Any, TypeVar

from kvmharness.abi.binding import Fd
from kvmharness.abi.constants import (
    STATS_BASE_MASK,
    STATS_TYPE_MASK,
    STATS_UNIT_MASK,
    StatsBase,
    StatsType,
    StatsUnit,
)
from kvmharness.errors import KvmHarnessError
from kvmharness.lean.dataclasses import dataclass

_Enum = TypeVar("_Enum", bound=IntEnum)

_HEADER = Struct("=6I")  # struct kvm_stats_header
_DESCRIPTOR = Struct("=IhHII")  # struct kvm_stats_desc, without the name behind it
_VALUE_BYTES = 8
_NOT_DIFFERENCES = frozenset({StatsType.PEAK, StatsType.LINEAR_HIST, StatsType.LOG_HIST})


class StatsError(KvmHarnessError):
    """What came from a statistics fd is not as the kernel documents it, or cannot be read."""


@dataclass(frozen=True, slots=True)
class StatDescriptor:
    """One statistic.

    Attributes:
        name: as in debugfs.
        type: cumulative, instantaneous, peak, or a histogram; a plain number when newer than this tool.
        unit: of the values, before the exponent; a plain number when newer than this tool.
        base: what the exponent is a power of.
        exponent: values are in units of base ** exponent, for example -9 for nanoseconds.
        size: number of values; 1 but for histograms.
        offset: of the first value in the data block, in bytes.
        bucket_size: width of a bucket of a linear histogram, in units; 0 otherwise.
    """

    name: str
    type: StatsType | int
    unit: StatsUnit | int
    base: StatsBase | int
    exponent: int
    size: int
    offset: int
    bucket_size: int


Values = dict[str, int | list[int]]


class StatsFd:
    """The statistics of one VM or one vCPU. Owns nothing: the fd belongs to who got it from KVM.

    Raises:
        StatsError: the kernel's description does not make sense.
    """

    def __init__(self, fd: Fd | int) -> None:
        self._fd = fd
        self._blocks = _blocks(self.pread(_HEADER.size, 0))
        self._layout = _layout(self.pread(self._blocks.desc_bytes, self._blocks.desc_offset), self._blocks.stride)

    @property
    def id(self) -> str:
        """What the kernel calls it, for example ``kvm-1234`` or ``kvm-1234/vcpu-0``."""
        return _text(self.pread(self._blocks.stride - _DESCRIPTOR.size, self._blocks.id_offset))

    @property
    def descriptors(self) -> tuple[StatDescriptor, ...]:
        """In the kernel's order."""
        return self._layout.descriptors

    def read(self) -> Values:
        """All values, by name; a histogram is a list. One system call.

        Raises:
            StatsError: the fd is closed.
        """
        layout = self._layout
        words = layout.values.unpack(self.pread(layout.values.size, self._blocks.data_offset))
        found: Values = dict(zip(layout.scalars, map(words.__getitem__, layout.scalars.values()), strict=True))
        for d in layout.histograms:
            first = d.offset // _VALUE_BYTES
            found[d.name] = list(words[first : first + d.size])
        return found

    def delta(self, before: Mapping[str, int | list[int]], after: Mapping[str, int | list[int]]) -> dict[str, int]:
        """What happened between two reads: differences of what can be subtracted, so no peaks and no histograms."""
        kept = self._layout.differences
        values: Any = (map(each.__getitem__, kept) for each in (after, before))
        return dict(zip(kept, map(sub, *values), strict=True))

    def pread(self, length: int, offset: int) -> bytes:
        """Exactly so many bytes.

        Raises:
            StatsError: fewer came, or none.
        """
        number = self._fd.number if isinstance(self._fd, Fd) else self._fd
        try:
            data = os.pread(number, length, offset)
        except OSError as error:
            raise StatsError(f"cannot read KVM's statistics from fd {number}: {error.strerror}") from error
        if len(data) != length:
            raise StatsError(f"KVM's statistics are cut off: {len(data)} bytes of {length} at {offset}")
        return data


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Where the parts of a statistics file are, in bytes; those of a descriptor are its `stride`."""

    id_offset: int
    desc_offset: int
    desc_bytes: int
    stride: int
    data_offset: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the values mean: the place of each that stands alone, the histograms, and what can be subtracted."""

    descriptors: tuple[StatDescriptor, ...]
    values: Struct
    scalars: Mapping[str, int]
    histograms: tuple[StatDescriptor, ...]
    differences: tuple[str, ...]


# All VMs of a kernel have the same statistics, and so have all vCPUs: taken apart once, not once a cell.
@cache
def _blocks(header: bytes) -> _Blocks:
    _flags, name_size, count, id_offset, desc_offset, data_offset = _HEADER.unpack(header)
    stride = _DESCRIPTOR.size + name_size
    _check_blocks(id_offset, name_size, desc_offset, count * stride, data_offset)
    return _Blocks(id_offset, desc_offset, count * stride, stride, data_offset)


@cache
def _layout(table: bytes, stride: int) -> _Layout:
    descriptors = tuple(_descriptor(table[at : at + stride]) for at in range(0, len(table), stride))
    _check_values(descriptors)
    words = max((d.offset // _VALUE_BYTES + d.size for d in descriptors), default=0)
    alone = [d for d in descriptors if d.size == 1]
    return _Layout(
        descriptors,
        Struct(f"={words}Q"),
        {d.name: d.offset // _VALUE_BYTES for d in alone},
        tuple(d for d in descriptors if d.size != 1),
        tuple(d.name for d in alone if d.type not in _NOT_DIFFERENCES),
    )


def _check_blocks(id_offset: int, id_bytes: int, desc_offset: int, desc_bytes: int, data_offset: int) -> None:
    """Header, id, descriptors and data, wherever they are, must not overlap. The data's length is not known yet."""
    blocks = sorted([(0, _HEADER.size), (id_offset, id_bytes), (desc_offset, desc_bytes), (data_offset, 0)])
    for (start, length), (following, _) in pairwise(blocks):
        if start + length > following:
            raise StatsError(f"KVM's statistics overlap: a block of {length} bytes at {start}, another at {following}")


def _check_values(descriptors: Sequence[StatDescriptor]) -> None:
    end = 0
    for d in sorted(descriptors, key=lambda d: d.offset):
        if d.offset < end or d.offset % _VALUE_BYTES or not d.size or not d.name:
            raise StatsError(
                f"KVM's statistic {d.name!r} has {d.size} values at {d.offset}, where the last one ends at {end}"
            )
        end = d.offset + d.size * _VALUE_BYTES


def _descriptor(raw: bytes) -> StatDescriptor:
    flags, exponent, size, offset, bucket_size = _DESCRIPTOR.unpack_from(raw)
    return StatDescriptor(
        name=_text(raw[_DESCRIPTOR.size :]),
        type=_known(StatsType, flags & STATS_TYPE_MASK),
        unit=_known(StatsUnit, flags & STATS_UNIT_MASK),
        base=_known(StatsBase, flags & STATS_BASE_MASK),
        exponent=exponent,
        size=size,
        offset=offset,
        bucket_size=bucket_size,
    )


def _known(kind: type[_Enum], value: int) -> _Enum | int:
    try:
        return kind(value)
    except ValueError:
        return value


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("ascii", "replace")
