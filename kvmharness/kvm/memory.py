"""Guest memory: an anonymous mapping of this process, seen by the guest through one memslot."""

from collections.abc import Iterable, Sequence

from kvmharness.abi.binding import SystemCallError, ffi, lib
from kvmharness.abi.constants import PAGE_BYTES
from kvmharness.errors import HostRequirementError
from kvmharness.kvm.arguments import typed_errors
from kvmharness.kvm.resources import Mapping

HUGE, LOCKED = "huge", "locked"
BACKINGS = (HUGE, LOCKED)
"""How memory can be backed: by transparent huge pages, and so that it stays where it is."""

HUGE_BYTES = 0x200000  # a page that one entry of a page directory maps
_WORD_BYTES = 8
_PROT = lib.PROT_READ | lib.PROT_WRITE
# Not reserved: only pages that the guest touches cost memory. Private: it dies with this process.
_FLAGS = lib.MAP_PRIVATE | lib.MAP_ANONYMOUS | lib.MAP_NORESERVE


@typed_errors
class Memory(Mapping):
    """A range of guest physical memory.

    Args:
        backing: of :data:`BACKINGS`; every page is there from the start then, also with none of them. Without it, pages
            come as they are touched.

    Attributes:
        gpa: where the guest sees it.
        slot: number of its memslot.

    Raises:
        SystemCallError, HostRequirementError: it cannot be had so.
    """

    __slots__ = ("_view", "gpa", "slot")

    def __init__(self, gpa: int, size_bytes: int, slot: int, backing: Sequence[str] | None = None) -> None:
        if size_bytes <= 0 or size_bytes % PAGE_BYTES or gpa % PAGE_BYTES:
            raise ValueError(
                f"guest memory at {gpa:#x}, {size_bytes:#x} bytes: must be whole pages, on a page boundary"
            )
        self.gpa = gpa
        self.slot = slot
        align = HUGE_BYTES if backing and HUGE in backing else 0
        super().__init__(size_bytes, _PROT, _FLAGS, -1, "guest memory", align=align)
        self._view: memoryview | None = None
        if backing is not None:
            try:
                self._back(backing)
            except BaseException:
                self.close()
                raise

    def _back(self, backing: Sequence[str]) -> None:
        if unknown := [word for word in backing if word not in BACKINGS]:
            raise ValueError(f"memory cannot be backed as {unknown[0]!r}: {', '.join(BACKINGS)}")
        start, size_bytes = ffi.cast("void *", self.address), self.size_bytes
        if HUGE in backing and lib.madvise(start, size_bytes, lib.MADV_HUGEPAGE):
            raise SystemCallError(
                "madvise(MADV_HUGEPAGE) of guest memory",
                ffi.errno,
                "leave huge away, or boot a kernel with CONFIG_TRANSPARENT_HUGEPAGE",
            )
        self._open_view()[::PAGE_BYTES] = bytes(size_bytes // PAGE_BYTES)
        if LOCKED in backing and lib.mlock(start, size_bytes):
            raise SystemCallError("mlock of guest memory", ffi.errno, "raise the limit: `ulimit -l`, or run as root")
        if HUGE in backing and not is_huge(self.address):
            raise HostRequirementError(
                "the kernel has no huge pages left for guest memory, or gives none",
                "See /sys/kernel/mm/transparent_hugepage/enabled; `sysctl vm.compact_memory=1` makes some.",
            )

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


def is_huge(address: int, root: str = "") -> bool:
    """Whether all of the mapping around an address of this process is in huge pages.

    Args:
        address: in a mapping.
        root: prefix of ``/proc``, for tests.

    Source: proc.rst, "/proc/PID/smaps".
    """
    inside, size_kb = False, ""
    try:
        with open(f"{root}/proc/self/smaps", encoding="ascii", errors="replace") as file:
            for line in file:
                name, _, rest = line.partition(" ")
                if "-" in name and not name.endswith(":"):
                    start, _, end = name.partition("-")
                    inside = int(start, 16) <= address < int(end, 16)
                elif inside and name == "Size:":
                    size_kb = rest.strip()
                elif inside and name == "AnonHugePages:":
                    return rest.strip() == size_kb
    except (OSError, ValueError):
        pass  # not known
    return False
