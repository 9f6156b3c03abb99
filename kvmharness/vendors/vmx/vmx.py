"""Intel's VMX."""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType

from kvmharness.vendors.vendor import FirstEntry, L2Exit, Range
from kvmharness.vendors.vmx import l1
from kvmharness.vendors.vmx.names import NAMES
from kvmharness.x86.cpuid import Feature
from kvmharness.x86.ept import EptTables
from kvmharness.x86.msr import FeatureControl, Msr
from kvmharness.x86.radix import RadixTables
from kvmharness.x86.registers import Cr4
from kvmharness.x86.vmcs12 import VMX_CR4
from kvmharness.x86.vmx_exits import ENTRY_FAILURE, VmxExit, describe_exit


class _Vmx:
    """See :class:`kvmharness.vendors.vendor.Vendor`."""

    names = NAMES
    feature = Feature.VMX
    l1_program = "l1_vmx"
    l2_program = "l2"
    l2_calls = "l2_calls"
    l1_moves_cr3 = False  # HOST_CR3 says where the exit goes
    invept = True
    exits: type[IntEnum] = VmxExit
    counted: tuple[str, ...] = (
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
    # Without it CR4.VMXE cannot be set; the capability MSRs of a new vCPU are already the most that KVM offers.
    # Source: Linux, vmx_set_vmx_msr() and nested_vmx_allowed().
    msrs: Mapping[int, int] = MappingProxyType(
        {Msr.FEATURE_CONTROL: FeatureControl.LOCKED | FeatureControl.VMX_OUTSIDE_SMX}
    )

    def cr4(self, *, pcid: bool) -> int:
        """CR4 of L1, and of L2, which the fixed bits force to be alike."""
        return int(VMX_CR4) | (Cr4.PCIDE if pcid else 0)

    def nested_space(self, base_gpa: int, ranges: Sequence[Range]) -> tuple[RadixTables, int]:
        """EPT tables, and their EPTP."""
        tables = EptTables(base_gpa)
        for each in ranges:
            tables.map(each.gpa, each.target, each.page_bytes, page_bytes=each.page_bytes)
        return tables, tables.eptp().value

    def pages(self, entry: FirstEntry) -> dict[int, bytes]:
        """VMXON region, VMCS region, and the whole VMCS12 as a table of fields for L1 to write.

        Raises:
            MissingControlError: the vCPU's VMX lacks EPT or VPID.
        """
        return l1.pages(entry, cr4=self.cr4(pcid=entry.pcid))

    def symbols(self) -> dict[str, int]:
        """VMCS fields, exit reasons, and where L1's regions are."""
        return l1.symbols()

    def describe(self, exit_: L2Exit) -> tuple[bool, str]:
        """An entry that failed late has bit 31 set. Source: SDM vol. 3C, "Basic VM-Exit Information"."""
        text = describe_exit(exit_.reason, exit_.qualification)
        if exit_.interruption_info >> 31 & 1:
            text += f", vector {exit_.interruption_info & 0xFF}"
        return bool(exit_.reason & ENTRY_FAILURE), text


VMX = _Vmx()
