"""L1 as a VMX hypervisor: its regions and the whole VMCS12, as pages to place in guest memory.

Policy is computed here; the guest program only copies the table of fields into its VMCS.
"""

import struct
from collections.abc import Sequence

from kvmharness.guest.image import Image
from kvmharness.guest.layout import VMCS_TABLE_END, Place
from kvmharness.guest.loader import TABLES, write_pages
from kvmharness.guest.rows import RoundTrip
from kvmharness.guest.shipped import image
from kvmharness.guest.spaces import Range, ept_space
from kvmharness.kvm.memory import Memory
from kvmharness.kvm.vcpu import Vcpu
from kvmharness.x86.msr import VMX_CAPABILITIES
from kvmharness.x86.registers import Cr4
from kvmharness.x86.vmcs import Field
from kvmharness.x86.vmcs12 import VMX_CR4, GuestState, HostState, vmcs12
from kvmharness.x86.vmx_controls import VmxCaps

VPID = 1  # constant: a changing one would make every entry flush

# The exits that round trips make, and those that would betray something else going on.
COUNTED_EXITS = (
    "VMRESUME",
    "VMCALL",
    "VMWRITE",
    "VMREAD",
    "VMLAUNCH",
    "INVEPT",
    "CR_ACCESS",
    "IO_INSTRUCTION",
    "EXTERNAL_INTERRUPT",
    "EXCEPTION_NMI",
    "EPT_VIOLATION",
    "EPT_MISCONFIG",
    "PREEMPTION_TIMER",
    "INVLPG",
)

_PAIR = struct.Struct("<QQ")


class Vmx:
    """L1 as a VMX hypervisor, see :class:`kvmharness.guest.hypervisor.Hypervisor`."""

    program = "l1_vmx"
    l2_program = "l2"
    l1_moves_cr3 = False  # HOST_CR3 says where the exit goes

    def cr4(self, *, pcid: bool) -> int:
        """CR4 of L1, and of L2, which the fixed bits force to be alike."""
        return int(VMX_CR4) | (Cr4.PCIDE if pcid else 0)

    def nested_space(self, base_gpa: int, ranges: Sequence[Range]) -> tuple[bytes, int]:
        """EPT tables, and their EPTP."""
        return ept_space(base_gpa, ranges)

    def place(self, vcpu: Vcpu, memory: Memory, l1: Image, first: RoundTrip, *, pcid: bool, vpid: bool) -> None:
        """Places L2 and everything that L1 needs to enter it.

        Raises:
            HostRequirementError: the vCPU has no VMX, or its VMX lacks EPT or VPID.
        """
        caps = VmxCaps.from_msrs(vcpu.get_msrs(VMX_CAPABILITIES))
        l2 = image(self.l2_program)
        memory.write(l2.origin, l2.code)
        write_pages(memory, pages(caps, l1, l2, first, cr4=self.cr4(pcid=pcid), vpid=vpid))


def pages(caps: VmxCaps, l1: Image, l2: Image, first: RoundTrip, *, cr4: int, vpid: bool) -> dict[int, bytes]:
    """gpa -> bytes of the VMXON region, the VMCS region, and the table of fields for L1 to write.

    Args:
        caps: what the vCPU offers.
        l1, l2: the images, for HOST_RIP and GUEST_RIP.
        first: the operands to start with; every round trip writes its own. An EPTP of 0 means no EPT for L2.
        cr4: on both levels.
        vpid: whether L2 has a VPID.

    Raises:
        MissingControlError: the vCPU's VMX lacks EPT or VPID.
    """
    guest = GuestState(rip=l2.symbols["entry"], rsp=0, cr3=first.guest_cr3, tables=TABLES, cr4=cr4)
    host = HostState(rip=l1.symbols["vm_exit"], rsp=Place.STACK_TOP, cr3=first.host_cr3, tables=TABLES, cr4=cr4)
    fields = dict(vmcs12(caps, guest=guest, host=host, eptp=first.eptp or None, vpid=VPID if vpid else 0))
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
