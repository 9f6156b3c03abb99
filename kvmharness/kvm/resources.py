"""Who owns an fd or a mapping, and what all that takes ioctls has. An owner closes once, and warns when forgotten.

A vCPU fd and a stats fd hold references on their VM in the kernel, so that closing the VM fd first would free nothing:
children close before parents, and guest memory is unmapped last. :class:`kvmharness.kvm.vm.Vm` keeps that order.
"""

from abc import ABC, abstractmethod
from errno import ENXIO
from typing import TYPE_CHECKING, Any, Self

from kvmharness.abi.binding import (
    DEVICE,
    IOCTLS,
    ArgumentError,
    Fd,
    Ioctl,
    IoctlError,
    SystemCallError,
    ffi,
    ioctl,
    ioctl_error,
    ioctl_raw,
    lib,
)
from kvmharness.abi.constants import PAGE_BYTES, Cap
from kvmharness.kvm.arguments import typed_errors

if TYPE_CHECKING:
    from types import TracebackType

_CLOSED = -1
# Looked up once: a VM lives for a third of a millisecond, and after each ioctl every look-up finds cold caches.
_close = lib.close
_mmap: Any = ffi.cast("uintptr_t (*)(uintptr_t, size_t, int, int, int, long)", lib.mmap)
_munmap: Any = ffi.cast("int (*)(uintptr_t, size_t)", lib.munmap)
_bytes_pointer = ffi.typeof("char *")
_CData = ffi.CData


def warn_leak(what: str, owner: object) -> None:
    """Emits a ResourceWarning, from a finalizer."""
    import warnings  # only when something leaked: imports cost where this runs

    warnings.warn(f"{what} was never closed", ResourceWarning, stacklevel=3, source=owner)


class Owner(ABC):
    """A context manager that closes itself."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> None:
        """Gives back what is owned; harmless when called again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        self.close()


class FdHolder(Fd, Owner):
    """Owns one fd. -1 in `number` is the only sign of being closed: a separate flag could contradict it."""

    __slots__ = ("what",)

    def __init__(self, number: int, level: int, what: str, vm: Fd | None = None) -> None:
        self.number = number
        self.level = level
        self.what = what
        self.vm = vm

    def close(self) -> None:
        """Closes the fd; harmless when called again."""
        number, self.number = self.number, _CLOSED  # forgotten first: whatever close() says, the number is not ours now
        if number >= 0:
            _close(number)

    def __del__(self) -> None:
        number = getattr(self, "number", _CLOSED)  # of an object that could not even be made
        if number >= 0:
            self.close()  # before the warning, which may be an error
            warn_leak(f"{self.what} (fd {number})", self)


class Mapping(Owner):
    """Owns one mmap(2) of this process.

    The memory is unmapped when the mapping is closed *and* the last memoryview of it is gone, so that a view kept by
    mistake is a late munmap(2), never a crash.

    Args:
        align: bytes that the address is to be a multiple of; whole pages.

    Attributes:
        address: where it starts (a hva), or 0 once closed.
        size_bytes: its length.
    """

    __slots__ = ("_pointer", "address", "size_bytes", "what")

    def __init__(
        self, size_bytes: int, prot: int, flags: int, fd: int, what: str, *, offset: int = 0, align: int = 0
    ) -> None:
        self.address = 0
        self.what = what
        self.size_bytes = size_bytes
        self._pointer: Any = None
        address = _mmap(0, size_bytes + align, prot, flags, fd, offset)
        if address == _MAP_FAILED:
            errno = ffi.errno
            raise SystemCallError(f"mmap of {size_bytes} bytes for {what}", errno, _mmap_hint(errno))
        if align:  # the kernel aligns to pages only: what sticks out at both ends goes back
            start = -(-address // align) * align
            _munmap_if(address, start - address)
            _munmap_if(start + size_bytes, address + align - start)
            address = start
        self.address = address

    @property
    def view(self) -> memoryview:
        """The bytes, writable. Drop it before expecting the memory to be gone.

        Raises:
            ArgumentError: the mapping is closed.
        """
        address, size_bytes = self.address, self.size_bytes
        if not address:
            raise ArgumentError(f"{self.what} is closed")
        if self._pointer is None:
            # From now on views keep their buffer, the buffer keeps the pointer, and the pointer's destructor unmaps.
            self._pointer = ffi.gc(ffi.cast(_bytes_pointer, address), lambda _: _munmap(address, size_bytes))
        return memoryview(ffi.buffer(self._pointer, size_bytes))

    def close(self) -> None:
        """Lets go of the memory; harmless when called again."""
        address, self.address = self.address, 0
        if self._pointer is not None:
            self._pointer = None
        elif address:
            _munmap(address, self.size_bytes)

    def __del__(self) -> None:
        address = getattr(self, "address", 0)
        if address:
            self.close()
            warn_leak(f"{self.what} ({self.size_bytes} bytes at {address:#x})", self)


_MAP_FAILED = (1 << 64) - 1


def _munmap_if(address: int, size_bytes: int) -> None:
    if size_bytes:
        _munmap(address, size_bytes)


def _mmap_hint(errno: int) -> str:
    import errno as names

    return "free memory, or ask for less; see also `ulimit -v`" if errno == names.ENOMEM else ""


@typed_errors
class Level(Owner):
    """Something with an fd that takes ioctls: the device, a VM, a vCPU, a device of a VM.

    Each method named as an ioctl is that ioctl, and raises IoctlError when the kernel refuses (MissingCapabilityError
    where it says that it has not the capability), ArgumentError when it cannot be asked. A struct that a method takes
    is a cffi pointer, or its fields by name as a dict, nested ones likewise. Structs that it gives are cffi pointers.

    Attributes:
        handle: the fd with its owner.
    """

    __slots__ = ("handle",)

    handle: FdHolder

    @property
    def fd(self) -> int:
        """The fd's number, for a native run loop."""
        return self.handle.number

    def close(self) -> None:
        """Closes the fd; harmless when called again."""
        self.handle.close()

    def get_struct(self, name: str) -> Any:
        """A fresh struct of the ioctl's own type, filled by it, for editing in place: no objects are built.

        Args:
            name: of a KVM_GET_* ioctl with a struct of fixed size, for example "KVM_GET_SREGS".
        """
        op = IOCTLS[name]
        struct = ffi.new(op.pointer)
        ioctl(self.handle, op, struct)
        return struct

    def set_struct(self, name: str, struct: Any) -> int:
        """The other direction, for example ``set_struct("KVM_SET_SREGS", struct)``: answers the ioctl's result.

        Args:
            name: of an ioctl with a struct of fixed size.
            struct: a pointer to it, or what cffi makes one of: its fields by name, or in order.
        """
        op = IOCTLS[name]
        return ioctl(self.handle, op, struct if isinstance(struct, _CData) else ffi.new(op.pointer, struct))

    def has_device_attr(self, group: int, attr: int) -> bool:
        """Whether there is such an attribute. Source: api.rst, "KVM_HAS_DEVICE_ATTR"."""
        op = IOCTLS["KVM_HAS_DEVICE_ATTR"]
        result, errno = ioctl_raw(self.handle, op, ffi.new(op.pointer, (0, group, attr, 0)))
        if errno and errno != ENXIO:
            raise ioctl_error(self.handle, op, errno, f"of attribute {attr} in group {group}")
        return result == 0

    def get_device_attr(self, group: int, attr: int, size_bytes: int = 8) -> bytes:
        """An attribute's value; the length is the attribute's. ENXIO when there is none."""
        if not 0 < size_bytes <= PAGE_BYTES:
            raise ArgumentError(f"an attribute of {size_bytes} bytes: it has 1 to {PAGE_BYTES}")
        value = ffi.new("char[]", size_bytes)
        self._attribute("KVM_GET_DEVICE_ATTR", group, attr, value)
        return bytes(ffi.buffer(value))

    def set_device_attr(self, group: int, attr: int, value: bytes) -> None:
        """Sets an attribute's value, of the attribute's length. /dev/kvm itself has none to set."""
        self._attribute("KVM_SET_DEVICE_ATTR", group, attr, ffi.from_buffer(value))

    def _attribute(self, name: str, group: int, attr: int, value: Any) -> None:
        self.set_struct(name, (0, group, attr, int(ffi.cast("uintptr_t", value))))

    def _enable_cap(self, cap: int | Cap, args: tuple[int, ...], flags: int) -> int:
        op = IOCTLS["KVM_ENABLE_CAP"]
        struct = ffi.new(op.pointer, {"cap": cap, "flags": flags, "args": args})
        result, errno = ioctl_raw(self.handle, op, struct)
        if errno:
            raise _not_enabled(self.handle, op, errno, cap)
        return result


def _not_enabled(fd: Fd, op: Ioctl, errno: int, cap: int | Cap) -> IoctlError:
    """The error for a KVM_ENABLE_CAP that failed: it is about the capability that was to be enabled."""
    name = f"KVM_CAP_{Cap(cap).name}" if cap in Cap.__members__.values() else f"capability {int(cap)}"
    return ioctl_error(fd, op, errno, f"of {name}", name)


class KernelDevice(Level):
    """A device of a VM inside the kernel, made by KVM_CREATE_DEVICE: all that it does is have attributes.

    A context manager; it closes before its VM.
    """

    __slots__ = ()

    def __init__(self, vm: Fd, kind: int) -> None:
        op = IOCTLS["KVM_CREATE_DEVICE"]
        struct = ffi.new(op.pointer, {"type": kind})
        ioctl(vm, op, struct)
        self.handle = FdHolder(struct.fd, DEVICE, f"device of type {kind}", vm)
