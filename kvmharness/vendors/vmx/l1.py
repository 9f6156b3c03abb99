"""L1 as a VMX hypervisor: its regions and the whole VMCS12, as pages to place in guest memory.

Policy is computed here; the guest program only copies the table of fields into its VMCS.
"""

import struct
from enum import IntEnum

from kvmharness.vendors.vendor import FirstEntry
from kvmharness.x86.vmcs import Field
from kvmharness.x86.vmcs12 import GuestState, HostState, vmcs12
from kvmharness.x86.vmx_controls import VmxCaps
from kvmharness.x86.vmx_exits import VmxExit

VPID = 1  # constant: a changing one would make every entry flush
TABLE_END = 0xFFFF_FFFF

_PAIR = struct.Struct("<QQ")


class Region(IntEnum):
    """Guest physical addresses, in the vendor's part of L1's memory: see :mod:`kvmharness.guest.layout`."""

    VMXON_REGION = 0x5000
    VMCS_REGION = 0x6000
    VMCS_TABLE = 0x7000  # pairs (field encoding, value) of 8 bytes each, up to the end mark
    INVEPT_DESCRIPTOR = 0x9000
    EPTP_LIST = 0xB000  # for EPTP switching: 512 of them
    L2_RESET = 0xC000  # pairs likewise: what L2 goes on with after an exit in the middle of a row


# VMCS fields that the guest code names itself; everything else comes to it as the field table.
_FIELDS = (
    *("HOST_CR3", "GUEST_CR3", "EPT_POINTER", "GUEST_RIP"),
    *("VM_EXIT_REASON", "EXIT_QUALIFICATION", "VM_INSTRUCTION_ERROR", "VM_EXIT_INTR_INFO"),
    "GUEST_PHYSICAL_ADDRESS",
)


def symbols() -> dict[str, int]:
    """The names that ``l1_vmx.asm`` has for all this."""
    names = {region.name: int(region) for region in Region}
    names |= {f"FIELD_{name}": int(Field[name]) for name in _FIELDS}
    return names | {"VMCS_TABLE_END": TABLE_END, "EXIT_VMCALL": int(VmxExit.VMCALL)}


def pages(entry: FirstEntry, *, cr4: int) -> dict[int, bytes]:
    """gpa -> bytes of the VMXON region, the VMCS region, and the table of fields for L1 to write.

    Args:
        entry: what to start with.
        cr4: on both levels.

    Raises:
        MissingControlError: the vCPU's VMX lacks EPT or VPID.
    """
    loaded = fields(entry, cr4=cr4)
    # An exception in L2 is always a mistake: let L1 see it rather than L2 run through L1's handlers.
    loaded[Field.EXCEPTION_BITMAP] = 0xFFFF_FFFF
    return region_pages(VmxCaps.from_msrs(entry.capabilities), loaded)


def fields(entry: FirstEntry, *, cr4: int) -> dict[Field, int]:
    """The VMCS12 to start with, in which every exception of L2's is its own.

    Raises:
        MissingControlError: as :func:`pages`.
    """
    caps = VmxCaps.from_msrs(entry.capabilities)
    guest = GuestState(rip=entry.l2_entry, rsp=0, cr3=entry.guest_cr3, tables=entry.tables, cr4=cr4)
    host = HostState(rip=entry.l1["vm_exit"], rsp=entry.stack_top, cr3=entry.host_cr3, tables=entry.tables, cr4=cr4)
    return dict(vmcs12(caps, guest=guest, host=host, eptp=entry.nested or None, vpid=VPID if entry.tagged else 0))


def region_pages(caps: VmxCaps, fields: dict[Field, int]) -> dict[int, bytes]:
    """gpa -> bytes of both regions, and of the table of fields."""
    region = caps.revision.to_bytes(4, "little")
    return {
        Region.VMXON_REGION: region,
        Region.VMCS_REGION: region,
        Region.VMCS_TABLE: field_table(fields),
    }


def field_table(fields: dict[Field, int]) -> bytes:
    """Pairs of field encoding and value, in the order of the encodings, with the end mark."""
    pairs = [(int(field), value) for field, value in sorted(fields.items())]
    return b"".join(_PAIR.pack(*pair) for pair in [*pairs, (TABLE_END, 0)])
