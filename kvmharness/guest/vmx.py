"""L1 as a VMX hypervisor: its regions and the whole VMCS12, as pages to place in guest memory.

Everything here is computed, nothing runs. The guest program only copies the table of fields into its VMCS.
"""

import struct

from kvmharness.guest.image import Image
from kvmharness.guest.layout import VMCS_TABLE_END, Place
from kvmharness.x86.registers import Cr4
from kvmharness.x86.vmcs import Field
from kvmharness.x86.vmcs12 import VMX_CR4, DescriptorTables, GuestState, HostState, vmcs12
from kvmharness.x86.vmx_controls import VmxCaps

PROGRAM = "l1_vmx"
L2_PROGRAM = "l2"
VPID = 1  # constant: a changing one would make every entry flush

_PAIR = struct.Struct("<QQ")


def l1_cr4(pcid: bool) -> int:
    """CR4 of L1, and of L2, which the fixed bits force to be alike."""
    return int(VMX_CR4) | (Cr4.PCIDE if pcid else 0)


def pages(
    caps: VmxCaps,
    l1: Image,
    l2: Image,
    tables: DescriptorTables,
    *,
    host_cr3: int,
    guest_cr3: int,
    eptp: int | None,
    pcid: bool,
    vpid: bool,
) -> dict[int, bytes]:
    """gpa -> bytes of the VMXON region, the VMCS region, and the table of fields for L1 to write.

    Args:
        caps: what the vCPU offers.
        l1, l2: the images, for HOST_RIP and GUEST_RIP.
        tables: L1's descriptor tables, which L2 shares.
        host_cr3, guest_cr3: the first ones; every round trip writes its own.
        eptp: the first one, or None where L1 gives L2 no EPT.
        pcid: CR4.PCIDE on both levels.
        vpid: whether L2 has a VPID.

    Raises:
        MissingControlError: the vCPU's VMX lacks EPT or VPID.
    """
    cr4 = l1_cr4(pcid)
    fields = dict(
        vmcs12(
            caps,
            guest=GuestState(rip=l2.symbols["entry"], rsp=0, cr3=guest_cr3, tables=tables, cr4=cr4),
            host=HostState(rip=l1.symbols["vm_exit"], rsp=Place.STACK_TOP, cr3=host_cr3, tables=tables, cr4=cr4),
            eptp=eptp,
            vpid=VPID if vpid else 0,
        )
    )
    # An exception in L2 is always a mistake: let L1 see it rather than L2 run through L1's handlers.
    fields[Field.EXCEPTION_BITMAP] = 0xFFFF_FFFF
    region = caps.revision.to_bytes(4, "little")
    return {
        Place.VMXON_REGION: region,
        Place.VMCS_REGION: region,
        Place.VMCS_TABLE: field_table(fields),
    }


def field_table(fields: dict[Field, int]) -> bytes:
    """Pairs of field encoding and value, in the order of the encodings, with the end mark."""
    pairs = [(int(field), value) for field, value in sorted(fields.items())]
    return b"".join(_PAIR.pack(*pair) for pair in [*pairs, (VMCS_TABLE_END, 0)])
