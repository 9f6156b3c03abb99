"""Plans a cell: everything about its guest that can be computed, from the cell and the host's capabilities alone."""

from typing import Any

from kvmharness.cells.cell import Cell
from kvmharness.cells.passes import Plan
from kvmharness.cells.rotation import Rotation, rotation
from kvmharness.errors import HostRequirementError
from kvmharness.guest import loader, rows, spaces
from kvmharness.guest.blueprint import Blueprint
from kvmharness.guest.image import Image
from kvmharness.guest.layout import Action, Flag, Place
from kvmharness.guest.shipped import image
from kvmharness.guest.spaces import Spaces
from kvmharness.kvm.capabilities import Capabilities
from kvmharness.kvm.nested import offered_vendor
from kvmharness.lean.dataclasses import dataclass
from kvmharness.vendors.vendor import FirstEntry, Vendor
from kvmharness.x86.registers import LONG_MODE_CR4, Cr4


@dataclass(frozen=True, slots=True)
class Planned:
    """A cell, ready to be built and run.

    Attributes:
        cell: what its guest does.
        vendor: whose virtualization L1 uses; None where there is no L2.
        blueprint: the guest.
        flags: of every phase.
        passes: in whole periods of the rotation.
    """

    cell: Cell
    vendor: Vendor | None
    blueprint: Blueprint
    flags: Flag
    passes: Plan

    def to_json(self) -> dict[str, Any]:
        """What :func:`kvmharness.cells.execute.execute` takes."""
        p = self.passes
        return {
            "id": self.cell.id,
            "blueprint": self.blueprint.to_json(),
            "flags": int(self.flags),
            "passes": [p.warmup, p.round_trips, p.batches, p.batch_round_trips, p.timeout_s],
        }


def plan(cell: Cell, offered: Capabilities, lengths: Plan, own_l2: Image | None = None) -> Planned:
    """Plans a cell.

    Args:
        cell: what the guest is to do.
        offered: by the host's KVM.
        lengths: of the passes.
        own_l2: code at TEST_CODE that L2 calls in each round trip.

    Raises:
        HostRequirementError: this KVM lacks nesting, EPT, VPID or PCID.
        ValueError: more roots than fit into the guest's memory.
    """
    order = rotation(cell)
    vendor = _vendor(cell, offered)
    tables = spaces.build(
        host_roots=order.host_roots,
        guest_roots=order.guest_roots,
        epts=cell.eptps,
        nested_space=vendor.nested_space if vendor else None,
    )
    operands = round_trips(order, tables)
    pages = {**tables.pages, int(Place.ROWS): rows.encode(operands), **loader.mailbox(len(operands))}
    cr3 = tables.host_cr3[0]
    if vendor is None:
        cr4 = int(LONG_MODE_CR4 | (Cr4.PCIDE if cell.pcid else 0))
        blueprint = loader.long_mode(image("mov_cr3"), offered, pages, cr3=cr3, cr4=cr4)
    else:
        pages |= _hypervisor_pages(vendor, cell, offered, operands[0], own_l2)
        cr4 = vendor.cr4(pcid=cell.pcid)
        l1 = image(vendor.l1_program)
        blueprint = loader.long_mode(l1, offered, pages, cr3=cr3, cr4=cr4, msrs=vendor.msrs)
    return Planned(cell, vendor, blueprint, _flags(cell), lengths.whole(order.period))


def _vendor(cell: Cell, offered: Capabilities) -> Vendor | None:
    if not cell.nested:
        return None
    vendor = offered_vendor(offered)
    if cell.invept_every and not vendor.invept:
        raise HostRequirementError(
            f"INVEPT is an instruction of VMX, and this host has {vendor.names.title}",
            "Leave out invept_every, or use --host vmx.",
        )
    return vendor


def _hypervisor_pages(
    vendor: Vendor, cell: Cell, offered: Capabilities, first: rows.RoundTrip, own_l2: Image | None
) -> dict[int, bytes]:
    """L2, and what L1 needs to enter it."""
    l2 = image(vendor.l2_calls if own_l2 else vendor.l2_program)
    called = {own_l2.origin: own_l2.code} if own_l2 else {}
    entry = FirstEntry(
        l1=image(vendor.l1_program).symbols,
        l2_entry=l2.symbols["entry"],
        stack_top=int(Place.STACK_TOP),
        tables=loader.TABLES,
        host_cr3=first.host_cr3,
        guest_cr3=first.guest_cr3,
        nested=first.eptp,
        pcid=cell.pcid,
        tagged=cell.vpid,
        capabilities=offered.msrs,
    )
    return {l2.origin: l2.code, **called, **vendor.pages(entry)}


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
