"""Guest memory: an anonymous mapping of this process, seen by the guest through one memslot."""

from collections.abc import Iterable

from kvmharness.abi.binding import lib
from kvmharness.abi.constants import PAGE_BYTES
from kvmharness.kvm.arguments import typed_errors
from kvmharness.kvm.resources import Mapping

_WORD_BYTES = 8
_PROT = lib.PROT_READ | lib.PROT_WRITE
# Not reserved: only pages that the guest touches cost memory. Private: it dies with this process.
_FLAGS = lib.MAP_PRIVATE | lib.MAP_ANONYMOUS | lib.MAP_NORESERVE


@typed_errors
class Memory(Mapping):
    """A range of guest physical memory.

    Attributes:
        gpa: where the guest sees it.
        slot: number of its memslot.
    """

    __slots__ = ("_view", "gpa", "slot")

    def __init__(self, gpa: int, size_bytes: int, slot: int) -> None:
        if size_bytes <= 0 or size_bytes % PAGE_BYTES or gpa % PAGE_BYTES:
            raise ValueError(
                f"guest memory at {gpa:#x}, {size_bytes:#x} bytes: must be whole pages, on a page boundary"
            )
        self.gpa = gpa
        self.slot = slot
        super().__init__(size_bytes, _PROT, _FLAGS, -1, "guest memory")
        self._view: memoryview | None = None

    @property
    def hva(self) -> int:
        """Its address in this process."""
        return self.address

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self.size_bytes

    @property
    def buffer(self) -> memoryview:
        """All bytes, writable; offset 0 is `gpa`. The memory stays mapped as long as a view of it lives."""
        return self._open_view()

    def write(self, gpa: int, data: bytes | bytearray | memoryview) -> None:
        """Writes bytes at a guest physical address.

        Raises:
            ArgumentError: it does not fit, or the memory is closed.
        """
        start = self._offset(gpa, len(data))
        self._open_view()[start : start + len(data)] = data

    def fill(self, pieces: Iterable[tuple[int, bytes]]) -> None:
        """Writes pieces, each at its guest physical address: faster than one by one.

        Raises:
            ArgumentError: as write().
        """
        view, base, size = self._open_view(), self.gpa, self.size_bytes
        for gpa, data in pieces:
            start = gpa - base
            end = start + len(data)
            if start < 0 or end > size:
                self._offset(gpa, len(data))  # says so
            view[start:end] = data

    def read(self, gpa: int, length: int) -> bytes:
        """Reads bytes at a guest physical address.

        Raises:
            ArgumentError: the range is not all here, or the memory is closed.
        """
        start = self._offset(gpa, length)
        return bytes(self._open_view()[start : start + length])

    def read_u64(self, gpa: int) -> int:
        """The little-endian 64-bit word at a guest physical address. Raises: ArgumentError, as read()."""
        return int.from_bytes(self.read(gpa, _WORD_BYTES), "little")

    def write_u64(self, gpa: int, value: int) -> None:
        """Writes a little-endian 64-bit word. Raises: ArgumentError, as write()."""
        self.write(gpa, value.to_bytes(_WORD_BYTES, "little"))

    def close(self) -> None:
        """Unmaps, once no view is left; harmless when called again. The memslot must be gone by then."""
        self._view = None
        super().close()

    def _open_view(self) -> memoryview:
        if self._view is None:
            self._view = self.view
        return self._view

    def _offset(self, gpa: int, length: int) -> int:
        start = gpa - self.gpa
        if start < 0 or length < 0 or start + length > self.size_bytes:
            end = self.gpa + self.size_bytes
            raise ValueError(f"gpa {gpa:#x}, {length} bytes: outside of the memory at {self.gpa:#x}..{end:#x}")
        return start
