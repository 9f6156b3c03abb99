"""Guests that tests ask for: a program in a VM of its own, and an L1 with its L2."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from kvmharness.cell_guest import CellGuest, cell_guest
from kvmharness.errors import UsageError
from kvmharness.guest import loader, programs, rows, spaces
from kvmharness.guest.image import Image
from kvmharness.guest.layout import Place, Port
from kvmharness.guest.runloop import RunLoop
from kvmharness.guest.session import Session
from kvmharness.guest.watchdog import Watchdog
from kvmharness.kvm.errors import raise_if_fatal
from kvmharness.kvm.exits import Exit, IoExit
from kvmharness.kvm.memory import Memory
from kvmharness.kvm.nested import guest_cpuid
from kvmharness.kvm.system import Kvm
from kvmharness.kvm.vcpu import Vcpu
from kvmharness.kvm.vm import Vm
from kvmharness.testing.watched import Watched
from kvmharness.workloads import Cell, Setup

if TYPE_CHECKING:
    from types import TracebackType

TIMEOUT_S = 20.0


class Guest:
    """A program in a VM of its own, ready to start.

    Attributes:
        vm, vcpu, memory: what it runs in; the VM can be given more before the first run.
        image: the program.
        console: what it has printed.
    """

    def __init__(self, vm: Vm, vcpu: Vcpu, memory: Memory, image: Image, loop: RunLoop) -> None:
        self.vm, self.vcpu, self.memory, self.image = vm, vcpu, memory, image
        self.console = ""
        self._loop = loop

    def run(self, *, timeout_s: float = TIMEOUT_S, may_die: bool = False) -> Exit:
        """Runs it until an exit other than output on the console port.

        Args:
            timeout_s: how long that may take.
            may_die: answer an exit after which the guest cannot go on, instead of raising.

        Raises:
            GuestHungError: it made no such exit in time.
            GuestError: it shut down, could not be entered, or KVM gave up on it.
        """
        __tracebackhide__ = True
        with Watchdog(self._loop, timeout_s):
            while True:
                found = self._loop.run()
                if isinstance(found, IoExit) and found.port == Port.CONSOLE:
                    self.console += found.data.decode("latin-1")
                    continue
                if not may_die:
                    raise_if_fatal(found)
                return found

    def session(self, *, timeout_s: float = TIMEOUT_S) -> Session:
        """The guest as one that speaks the doorbell protocol; its rows are those of one root."""
        return Session(self._loop, self.memory, 1, timeout_s=timeout_s)


class Nested:
    """An L1 that makes round trips to its L2.

    Attributes:
        cell: what they do.
        vm, vcpu: L1's.
    """

    def __init__(self, cell: Cell, guest: CellGuest) -> None:
        self.cell, self.vm, self.vcpu = cell, guest.vm, guest.vcpu
        self.flags, self.session = guest.flags, guest.session

    def run(self, round_trips: int) -> None:
        """Makes round trips, each of them checked by what L2 and L1 read through their new tables.

        Raises:
            GuestError: a stale translation, a refused entry, an exit that L1 does not expect, or a guest that hangs.
        """
        __tracebackhide__ = True
        self.session.phase(1, round_trips, self.flags)

    @property
    def round_trips(self) -> int:
        """How many it has made, as L1 counts them."""
        return self.session.round_trips


class Guests:
    """Makes guests for one test, and takes all of them down."""

    def __init__(self, kvm: Kvm, watched: Watched) -> None:
        self._kvm, self._watched = kvm, watched
        self._stack = ExitStack()

    def make(self, program: str | Image) -> Guest:
        """A shipped program by its name, or an image.

        Raises:
            UsageError: no such program, or one that is only a part of a nested pair.
        """
        image = programs.image(program) if isinstance(program, str) else program
        if image.name == "run_loop" or image.name.startswith(("l1_", "l2")):
            raise UsageError(f"{image.name} is no guest by itself", "The fixture `nested` makes an L1 with its L2.")
        vm = self._stack.enter_context(self._kvm.create_vm())
        self._watched.add(vm, image)
        memory = loader.add_memory(vm, image)
        vcpu = vm.create_vcpu()
        vcpu.set_cpuid2(guest_cpuid(self._kvm))
        if image.header["mode"].startswith("real16"):
            loader.enter_real_mode(vcpu, image)
        else:
            tables = spaces.build(host_roots=1, guest_roots=0, epts=0)
            loader.write_pages(memory, tables.pages)
            memory.write(Place.ROWS, rows.encode([rows.RoundTrip(tables.host_cr3[0], spaces.host_tag(0))]))
            loader.enter_long_mode(vcpu, memory, image, cr3=tables.host_cr3[0])
        loop = RunLoop(vcpu)
        loop.on_exit = self._watched.exits.append
        return Guest(vm, vcpu, memory, image, loop)

    def make_nested(self, *, timeout_s: float = TIMEOUT_S, **fields: Any) -> Nested:
        """A pair for one cell of the matrix.

        Args:
            timeout_s: how long the guests may go without a doorbell.
            fields: of :class:`kvmharness.workloads.Cell`; the set-up follows from the number of EPTPs.

        Raises:
            HostRequirementError: this KVM lacks what the cell needs.
        """
        eptps = fields.get("eptps", 0)
        setup = Setup.NO_EPT if not eptps else Setup.ONE_EPTP if eptps == 1 else Setup.EPTPS
        cell = Cell(**{"setup": setup, **fields})
        if not cell.nested:
            raise UsageError("a cell with L1 alone has no L2", 'Use guest("mov_cr3").')
        made = self._stack.enter_context(cell_guest(self._kvm, cell, timeout_s=timeout_s))
        made.loop.on_exit = self._watched.exits.append
        assert made.hypervisor is not None
        images = (made.hypervisor.program, made.hypervisor.l2_program)
        self._watched.add(made.vm, *map(programs.image, images))
        return Nested(cell, made)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        self._stack.close()
