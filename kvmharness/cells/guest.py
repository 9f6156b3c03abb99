"""The guest of one cell: a VM with L1, and L2 where there is one, ready to make round trips."""

from collections.abc import Iterator
from contextlib import contextmanager

from kvmharness.cells.cell import Cell
from kvmharness.cells.rotation import Rotation, rotation
from kvmharness.guest import loader, rows, spaces
from kvmharness.guest.hypervisor import Hypervisor, hypervisor
from kvmharness.guest.layout import Action, Flag, Place
from kvmharness.guest.runloop import RunLoop
from kvmharness.guest.session import TIMEOUT_S, Session
from kvmharness.guest.shipped import image
from kvmharness.guest.spaces import Spaces
from kvmharness.kvm.nested import enable_nested
from kvmharness.kvm.system import Kvm
from kvmharness.kvm.vcpu import Vcpu
from kvmharness.kvm.vm import Vm
from kvmharness.lean.dataclasses import dataclass
from kvmharness.x86.registers import LONG_MODE_CR4, Cr4

_TSS_GPA = 0xFFFB_D000  # three pages below 4 GiB and above all memslots, where other VMMs have it too
# By default KVM keeps 64 for so small a guest: with a dozen roots to shadow, each round trip would recycle some.
_SHADOW_PAGES = 1024


@dataclass(frozen=True, slots=True)
class CellGuest:
    """A guest that runs a cell.

    Attributes:
        session: drives it; the first phase starts it.
        flags: what :meth:`Session.phase` is to be given.
        period: round trips until the operands repeat.
        hypervisor: what L1 is; None where there is no L2.
    """

    vm: Vm
    vcpu: Vcpu
    loop: RunLoop
    session: Session
    flags: Flag
    period: int
    hypervisor: Hypervisor | None


@contextmanager
def cell_guest(kvm: Kvm, cell: Cell, *, timeout_s: float = TIMEOUT_S) -> Iterator[CellGuest]:
    """Builds the guest of a cell, and takes it down again.

    Args:
        kvm: the open device.
        cell: what the guest is to do.
        timeout_s: how long it may go without a doorbell.

    Raises:
        HostRequirementError: this KVM lacks nesting, EPT, VPID or PCID.
        IoctlError: KVM refuses something.
    """
    order = rotation(cell)
    l2 = hypervisor(kvm) if cell.nested else None
    tables = spaces.build(
        host_roots=1 + max(root for root, _ in order.host),
        guest_roots=1 + max((root for root, _ in order.guest), default=-1),
        epts=cell.eptps,
        nested_space=l2.nested_space if l2 else spaces.ept_space,
    )
    operands = round_trips(order, tables)
    with kvm.create_vm() as vm:
        # Every vCPU starts in real mode, for which KVM needs a TSS of its own on Intel without unrestricted guest.
        vm.set_tss_addr(_TSS_GPA)
        vm.set_nr_mmu_pages(_SHADOW_PAGES)
        l1 = image(l2.program if l2 else "mov_cr3")
        memory = loader.add_memory(vm, l1)
        loader.write_pages(memory, tables.pages)
        memory.write(Place.ROWS, rows.encode(operands))
        vcpu = vm.create_vcpu()
        if l2:
            enable_nested(vcpu)
            l2.place(vcpu, memory, l1, operands[0], pcid=cell.pcid, vpid=cell.vpid)
            cr4 = l2.cr4(pcid=cell.pcid)
        else:
            vcpu.set_cpuid2(kvm.get_supported_cpuid())
            cr4 = LONG_MODE_CR4 | (Cr4.PCIDE if cell.pcid else 0)
        loader.enter_long_mode(vcpu, memory, l1, cr3=tables.host_cr3[0], cr4=cr4)
        loop = RunLoop(vcpu)
        session = Session(loop, memory, len(operands), timeout_s=timeout_s)
        yield CellGuest(vm, vcpu, loop, session, _flags(cell), order.period, l2)


def round_trips(order: Rotation, tables: Spaces) -> list[rows.RoundTrip]:
    """The operands of a cell's round trips, one period of them."""
    return [_round_trip(number, order, tables) for number in range(order.period)]


def _round_trip(number: int, order: Rotation, tables: Spaces) -> rows.RoundTrip:
    host_root, host_pcid = order.host[number % len(order.host)]
    host = {"host_cr3": tables.host_cr3[host_root] | host_pcid, "host_tag": spaces.host_tag(host_root)}
    if not order.guest:
        return rows.RoundTrip(**host)
    entered, pcid = order.guest[number % len(order.guest)]
    read = entered
    l2_cr3 = 0
    if order.l2_moves:
        read, l2_pcid = order.l2_moves[number % len(order.l2_moves)]
        l2_cr3 = tables.guest_cr3[read] | l2_pcid
    ept = order.ept[number % len(order.ept)] if order.ept else 0
    invalidate = order.invept_every and number % order.invept_every == 0
    return rows.RoundTrip(
        **host,
        guest_cr3=tables.guest_cr3[entered] | pcid,
        guest_tag=spaces.guest_tag(read, ept),
        eptp=tables.eptp[ept] if order.ept else 0,
        l2_cr3=l2_cr3,
        actions=Action.INVEPT if invalidate else 0,
    )


def _flags(cell: Cell) -> Flag:
    flags = Flag(0)
    if cell.eptps:
        flags |= Flag.WRITE_EPTP
    if cell.l2_moves_cr3:
        flags |= Flag.L2_MOVES_CR3
    return flags
