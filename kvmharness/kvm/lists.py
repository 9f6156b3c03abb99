"""CPUID tables and MSR lists: the ioctls whose struct ends in an array of a length that the caller chooses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from errno import E2BIG
from typing import Any

from kvmharness.abi.binding import IOCTLS, Fd, Ioctl, ffi, ioctl, ioctl_error, ioctl_raw
from kvmharness.abi.errors import MsrError
from kvmharness.kvm.value import Value
from kvmharness.lean.dataclasses import dataclass

_ENTRIES_FIRST = 256  # KVM_MAX_CPUID_ENTRIES of Linux 5.10 and later
_MSRS_FIRST = 512
_REGISTERS_FIRST = 64
_GROWTH_TRIES = 6

_GET_MSRS = IOCTLS["KVM_GET_MSRS"]
_SET_MSRS = IOCTLS["KVM_SET_MSRS"]
_cpuid2 = ffi.typeof("struct kvm_cpuid2 *")
_msrs = ffi.typeof("struct kvm_msrs *")


@dataclass(frozen=True, slots=True)
class CpuidEntry(Value):
    """``struct kvm_cpuid_entry2``: one leaf or subleaf; `flags` are :class:`CpuidFlag` bits."""

    function: int
    index: int
    flags: int
    eax: int
    ebx: int
    ecx: int
    edx: int


def read_cpuid(fd: Fd, op: Ioctl) -> Any:
    """A ``struct kvm_cpuid2 *`` filled by the kernel.

    Raises:
        IoctlError: the kernel refused, for another reason than a table too small.
    """
    count = _ENTRIES_FIRST
    for _ in range(_GROWTH_TRIES):
        table = ffi.new(_cpuid2, {"nent": count, "entries": count})
        _, errno = ioctl_raw(fd, op, table)
        if not errno:
            return table
        if errno != E2BIG:
            break
        count *= 2
    raise ioctl_error(fd, op, errno, f"with room for {count} entries")


def cpuid_entries(table: Any) -> list[CpuidEntry]:
    """The table as objects."""
    entries = table.entries
    result = []
    for number in range(table.nent):
        e = entries[number]
        result.append(CpuidEntry(e.function, e.index, e.flags, e.eax, e.ebx, e.ecx, e.edx))
    return result


def pack_cpuid(entries: Iterable[CpuidEntry]) -> Any:
    """A ``struct kvm_cpuid2 *`` with these entries."""
    rows = [(e.function, e.index, e.flags, e.eax, e.ebx, e.ecx, e.edx) for e in entries]
    return ffi.new(_cpuid2, {"nent": len(rows), "entries": rows})


def read_msr_list(fd: Fd, op: Ioctl) -> list[int]:
    """The MSR indices that the kernel lists.

    Raises:
        IoctlError: the kernel refused.
    """
    return _read_list(fd, op, "nmsrs", "indices", _MSRS_FIRST)


def read_reg_list(fd: Fd) -> list[int]:
    """The register ids that the kernel lists.

    Raises:
        IoctlError: the kernel refused.
    """
    return _read_list(fd, IOCTLS["KVM_GET_REG_LIST"], "n", "reg", _REGISTERS_FIRST)


def _read_list(fd: Fd, op: Ioctl, count_name: str, array: str, count: int) -> list[int]:
    for _ in range(_GROWTH_TRIES):
        table = ffi.new(op.pointer, {count_name: count, array: count})
        _, errno = ioctl_raw(fd, op, table)
        if not errno:
            return list(getattr(table, array)[0 : getattr(table, count_name)])
        if errno != E2BIG:
            break
        count = getattr(table, count_name)  # the kernel has put the right length here
    raise ioctl_error(fd, op, errno, f"with room for {count} entries")


def pack_list(op: Ioctl, count: str, array: str, rows: Sequence[Any]) -> Any:
    """The struct of an ioctl that ends in an array, which is as long as it must be.

    Args:
        op: from IOCTLS.
        count, array: names of the fields with the array's length, and of the array.
        rows: its items, as cffi takes them.
    """
    return ffi.new(op.pointer, {count: len(rows), array: rows})


def get_msrs(fd: Fd, indices: Iterable[int]) -> dict[int, int]:
    """Values by index, in the order given.

    Raises:
        MsrError: KVM refused one of them.
        IoctlError: the call itself failed.
    """
    wanted = [int(index) for index in indices]
    table = ffi.new(_msrs, {"nmsrs": len(wanted), "entries": [(index,) for index in wanted]})
    done = ioctl(fd, _GET_MSRS, table)
    if done < len(wanted):
        raise MsrError("KVM_GET_MSRS", wanted[done])
    return {entry.index: entry.data for entry in table.entries[0:done]}


def set_msrs(fd: Fd, values: Mapping[int, int]) -> None:
    """Writes MSRs in the order given.

    Raises:
        MsrError: KVM refused one of them; those before it are written.
        IoctlError: the call itself failed.
    """
    rows = [(int(index), 0, value) for index, value in values.items()]
    table = ffi.new(_msrs, {"nmsrs": len(rows), "entries": rows})
    done = ioctl(fd, _SET_MSRS, table)
    if done < len(rows):
        raise MsrError("KVM_SET_MSRS", rows[done][0], rows[done][2])
