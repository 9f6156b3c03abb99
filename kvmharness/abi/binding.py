"""Calls into the kernel: the cffi binding, and ioctls that are refused here when level or struct is wrong.

Every call through ``lib`` releases the GIL. cffi keeps errno per thread in ``ffi.errno``.
"""

from errno import EINTR
from os import fsencode
from typing import TYPE_CHECKING, Any

from kvmharness.abi._kvm_abi import ffi as _ffi
from kvmharness.abi.constants import Cap
from kvmharness.abi.errors import ArgumentError, DeviceError, IoctlError, MissingCapabilityError, SystemCallError
from kvmharness.abi.ioctls import DEVICE, IOCTLS, LEVEL_NAMES, SYSTEM, VCPU, VM, Ioctl

if TYPE_CHECKING:
    from kvmharness.abi.libc import Libc

__all__ = [
    "DEVICE",
    "IOCTLS",
    "SYSTEM",
    "VCPU",
    "VM",
    "ArgumentError",
    "DeviceError",
    "Fd",
    "Ioctl",
    "IoctlError",
    "MissingCapabilityError",
    "SystemCallError",
    "address_of",
    "ffi",
    "ioctl",
    "ioctl_error",
    "ioctl_pointer",
    "ioctl_raw",
    "ioctl_value",
    "lib",
    "open_file",
]

ffi: Any = _ffi
lib: "Libc" = _ffi.dlopen(None)

# glibc's ioctl() takes its third argument from the same register as a function without "...". cffi prepares a call of
# that kind once, and a variadic one anew each time, from arguments that must be cffi objects.
ioctl_value: Any = ffi.cast("int (*)(int, unsigned long, unsigned long)", lib.ioctl)
"""ioctl(fd, request, integer), unchecked."""
ioctl_pointer: Any = ffi.cast("int (*)(int, unsigned long, void *)", lib.ioctl)
"""ioctl(fd, request, pointer), unchecked."""

_typeof = ffi.typeof
_WORD = 1 << 64
_CData = ffi.CData


class Fd:
    """A file descriptor number together with what is behind it; it owns nothing.

    Attributes:
        number: the fd, or -1 once closed.
        level: SYSTEM, VM, VCPU or DEVICE; 0 for an fd that takes none of the ioctls.
        vm: for a vCPU or a device, its VM's fd, which answers what it is capable of; None where that is not known.
    """

    __slots__ = ("level", "number", "vm")

    def __init__(self, number: int, level: int, vm: "Fd | None" = None) -> None:
        self.number = number
        self.level = level
        self.vm = vm


def ioctl_raw(fd: Fd, op: Ioctl, arg: Any = 0) -> tuple[int, int]:
    """One ioctl(2), answering its result and errno (0 when it succeeded).

    Args:
        fd: of a level that takes the ioctl.
        op: from IOCTLS.
        arg: a pointer to the ioctl's struct, or an integer when it has none.

    Raises:
        ArgumentError: the kernel would have been given the wrong fd, the wrong struct, or a number that is not one of
            64 bits. It was not called.
    """
    ret = _checked_call(fd, op, arg)
    return (ret, ffi.errno) if ret < 0 else (ret, 0)


def ioctl(fd: Fd, op: Ioctl, arg: Any = 0) -> int:
    """As :func:`ioctl_raw`, answering the result alone. A signal only delays it (not for KVM_RUN: see Vcpu.run).

    Raises:
        MissingCapabilityError: the kernel refused, and says that it has not the capability.
        IoctlError: the kernel refused.
        ArgumentError: as there.
    """
    while (ret := _checked_call(fd, op, arg)) < 0:
        errno = ffi.errno
        if errno != EINTR:  # KVM_CREATE_VM, for one; Python's signal handlers have run by now
            raise ioctl_error(fd, op, errno, f"on {LEVEL_NAMES[fd.level]} fd {fd.number}")
    return ret


def _checked_call(fd: Fd, op: Ioctl, arg: Any) -> int:
    if not op.levels & fd.level:
        raise ArgumentError(_wrong_level(fd, op))
    result: int
    if op.pointer is None:
        if not isinstance(arg, int) or not 0 <= arg < _WORD:
            raise ArgumentError(f"{op.name} takes an integer of 64 bits without a sign, not {arg!r}")
        result = ioctl_value(fd.number, op.number, arg)
    else:
        if not isinstance(arg, _CData) or _typeof(arg) is not op.pointer:
            raise ArgumentError(f"{op.name} takes a pointer to {op.struct}, not {arg!r}")
        result = ioctl_pointer(fd.number, op.number, arg)
    return result


def ioctl_error(fd: Fd, op: Ioctl, errno: int, detail: str = "", capability: str = "") -> IoctlError:
    """The error for an ioctl that failed, with its hint.

    Args:
        fd: that it was called on.
        op: from IOCTLS.
        errno: of the call.
        detail: on what, for the message.
        capability: that it was about; by default the ioctl's own.
    """
    capability = capability or op.needs(fd.level)
    if capability and _lacks(fd, capability):
        return MissingCapabilityError(op.name, errno, detail, capability)
    return IoctlError(op.name, errno, detail, capability)


def _lacks(fd: Fd, capability: str) -> bool:
    """Whether the kernel says so, rather than nothing."""
    asked = fd if fd.level in (SYSTEM, VM) else fd.vm
    name = capability.removeprefix("KVM_CAP_")
    if asked is None or name not in Cap.__members__:
        return False
    return bool(ioctl_value(asked.number, IOCTLS["KVM_CHECK_EXTENSION"].number, Cap[name]) == 0)


def _wrong_level(fd: Fd, op: Ioctl) -> str:
    wanted = " or ".join(name for level, name in LEVEL_NAMES.items() if op.levels & level)
    return f"{op.name} is for a {wanted} fd, not for a {LEVEL_NAMES.get(fd.level, 'foreign')} fd"


def open_file(path: str, flags: int) -> tuple[int, int]:
    """open(2), close-on-exec: the fd and 0, or -1 and errno.

    Raises:
        ArgumentError: that cannot be the name of a file.
    """
    try:
        name = fsencode(path)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{path!r} is no file's name: {error}") from error
    if b"\0" in name:
        raise ArgumentError(f"{path!r} is no file's name: it has a NUL in it")
    number = lib.open(name, flags | lib.O_CLOEXEC)
    return (number, 0) if number >= 0 else (-1, ffi.errno)


def address_of(pointer: Any) -> int:
    """A cffi pointer as an integer."""
    return int(ffi.cast("uintptr_t", pointer))
