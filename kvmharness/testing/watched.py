"""The VMs that a test's fixtures made, remembered so that a failure can show what became of them."""

from collections import deque
from typing import TYPE_CHECKING, Self

from kvmharness.errors import KvmHarnessError
from kvmharness.guest.image import Image
from kvmharness.kvm.exits import Exit
from kvmharness.kvm.vm import Vm

if TYPE_CHECKING:
    from types import TracebackType

    from kvmharness.lab.agent import KernelLog

LAST_EXITS = 8


class Watched:
    """What one test made, and the kernel's log from its beginning on.

    Attributes:
        vms: each with the images that were placed in it.
        exits: the last exits that the fixtures' guests made to Python, oldest first.
    """

    def __init__(self) -> None:
        self.vms: list[tuple[Vm, tuple[Image, ...]]] = []
        self.exits: deque[Exit] = deque(maxlen=LAST_EXITS)
        self._log: KernelLog | None = None
        self._no_log = ""

    def add(self, vm: Vm, *images: Image) -> None:
        """Remembers a VM."""
        self.vms.append((vm, images))

    def kernel_log(self) -> list[str]:
        """What the kernel said since the test's beginning, or why that cannot be told."""
        return [self._no_log] if self._log is None else self._log.gained()

    def __enter__(self) -> Self:
        from kvmharness.lab.agent import KernelLog

        try:
            self._log = KernelLog()
        except (OSError, KvmHarnessError) as error:
            self._no_log = f"(the kernel's log cannot be read: {error})"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None
