"""Who owns an fd or a mapping. Each owner holds one thing, closes it once, and warns when it was forgotten.

A vCPU fd and a stats fd hold references on their VM in the kernel, so that closing the VM fd first would free nothing:
children close before parents, and guest memory is unmapped last. :class:`kvmharness.kvm.vm.Vm` keeps that order.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

from kvmharness.abi.binding import ArgumentError, Fd, SystemCallError, ffi, lib

if TYPE_CHECKING:
    from types import TracebackType

_CLOSED = -1
# Looked up once: a VM lives for a third of a millisecond, and after each ioctl every look-up finds cold caches.
_close = lib.close
_mmap: Any = ffi.cast("uintptr_t (*)(uintptr_t, size_t, int, int, int, long)", lib.mmap)
_munmap: Any = ffi.cast("int (*)(uintptr_t, size_t)", lib.munmap)
_bytes_pointer = ffi.typeof("char *")


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

    def __init__(self, number: int, level: int, what: str) -> None:
        self.number = number
        self.level = level
        self.what = what

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

    Attributes:
        address: where it starts (a hva), or 0 once closed.
        size_bytes: its length.
    """

    __slots__ = ("_pointer", "address", "size_bytes", "what")

    def __init__(self, size_bytes: int, prot: int, flags: int, fd: int, what: str) -> None:
        self.address = 0
        self.what = what
        self.size_bytes = size_bytes
        self._pointer: Any = None
        address = _mmap(0, size_bytes, prot, flags, fd, 0)
        if address == _MAP_FAILED:
            errno = ffi.errno
            raise SystemCallError(f"mmap of {size_bytes} bytes for {what}", errno, _mmap_hint(errno))
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


def _mmap_hint(errno: int) -> str:
    import errno as names

    return "free memory, or ask for less; see also `ulimit -v`" if errno == names.ENOMEM else ""
