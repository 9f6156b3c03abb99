"""VMX for litmus tests."""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from kvmharness.vendors.litmus import Ask, Entry, MsrBits, Words
from kvmharness.vendors.vendor import FirstEntry
from kvmharness.vendors.vmx import l1
from kvmharness.vendors.vmx.l1 import Region
from kvmharness.x86.ept import Epte, MemoryType
from kvmharness.x86.msr import VMX_CAPABILITIES, Msr
from kvmharness.x86.registers import Rflags
from kvmharness.x86.segments import CODE64, DATA
from kvmharness.x86.vmcs import Field
from kvmharness.x86.vmx_controls import BASIC_TRUE_CONTROLS, EptVpidCap, Exit, Proc, Proc2, VmxCaps, adjust, has_control
from kvmharness.x86.vmx_exits import ENTRY_FAILURE, VmxExit


def _second(control: Proc2) -> tuple[int, int]:
    return Msr.VMX_PROCBASED_CTLS2, control << 32


def _ept_vpid(*bits: EptVpidCap) -> MsrBits:
    return MsrBits(((Msr.VMX_EPT_VPID_CAP, sum(bits)),))


_RIGHTS = {"r": Epte.R, "w": Epte.W, "x": Epte.X}
_MEMORY_TYPE_SHIFT = 3
_EPTP_SWITCHING = 1 << 0

_ANY = 0xFFFF_FFFF << 32
_CONTROLS = (
    *(Msr.VMX_TRUE_PINBASED_CTLS, Msr.VMX_TRUE_PROCBASED_CTLS),
    *(Msr.VMX_TRUE_EXIT_CTLS, Msr.VMX_TRUE_ENTRY_CTLS),
)
_ALL = (1 << 64) - 1
_FREE = {Msr.VMX_BASIC: BASIC_TRUE_CONTROLS, Msr.VMX_CR0_FIXED1: _ALL, Msr.VMX_CR4_FIXED1: _ALL}


class _VmxLitmus:
    """See :class:`kvmharness.vendors.litmus.LitmusVendor`."""

    l1_program = "litmus_vmx"
    l2_program = "litmus_l2"
    asids = False
    efer = 0
    asks: Mapping[str, Ask] = MappingProxyType(
        {
            "nested": MsrBits((_second(Proc2.ENABLE_EPT),)),
            "tag": MsrBits((_second(Proc2.ENABLE_VPID),)),
            "large": _ept_vpid(EptVpidCap.PAGE_2M),
            "accessed": _ept_vpid(EptVpidCap.ACCESS_DIRTY),
            "invept": _ept_vpid(EptVpidCap.INVEPT, EptVpidCap.INVEPT_SINGLE, EptVpidCap.INVEPT_ALL),
            "invvpid": _ept_vpid(EptVpidCap.INVVPID, EptVpidCap.INVVPID_ADDRESS, EptVpidCap.INVVPID_SINGLE),
            "vmfunc": MsrBits((_second(Proc2.ENABLE_VMFUNC), (Msr.VMX_VMFUNC, _EPTP_SWITCHING))),
            "refusals": None,
            # Source: Linux, sync_vmcs02_to_vmcs12(): it saves GUEST_CR3 where KVM uses EPT, which L1 is then offered.
            "cr3-kept": MsrBits((_second(Proc2.ENABLE_EPT),)),
            "invpcid-l2": MsrBits((_second(Proc2.ENABLE_INVPCID),)),
        }
    )

    def ideal(self, wishes: Collection[str]) -> Mapping[int, int]:
        """Every control may be 0 or 1, but of the secondary ones and of EPT and VPID only what is wished is there."""
        msrs = dict.fromkeys(VMX_CAPABILITIES, 0) | dict.fromkeys(_CONTROLS, _ANY) | _FREE
        for ask in (self.asks[wish] for wish in wishes):
            for msr, mask in ask.bits if isinstance(ask, MsrBits) else ():
                msrs[msr] |= mask
        return msrs

    def pages(self, entry: FirstEntry, *, cr4: int, l2_idt: int, nested_roots: tuple[int, ...]) -> dict[int, bytes]:
        """The whole VMCS12; what L2 does to its CR3 and CR4, and the exceptions that it takes, are no exits."""
        caps = VmxCaps.from_msrs(entry.capabilities)
        fields = l1.fields(entry, cr4=cr4)
        fields[Field.EXCEPTION_BITMAP] = 0
        fields[Field.CPU_BASED_VM_EXEC_CONTROL] = adjust(
            Proc(fields[Field.CPU_BASED_VM_EXEC_CONTROL]) & ~Proc.UNCONDITIONAL_IO_EXITING, caps.proc
        )
        fields[Field.GUEST_IDTR_BASE] = l2_idt
        fields[Field.GUEST_RSP] = entry.stack_top
        reset = {
            Field.GUEST_RSP: entry.stack_top,
            Field.GUEST_RFLAGS: int(Rflags.FIXED),
            Field.GUEST_CS_SELECTOR: CODE64.selector,
            Field.GUEST_CS_AR_BYTES: CODE64.access_rights,
            Field.GUEST_SS_SELECTOR: DATA.selector,
            Field.GUEST_SS_AR_BYTES: DATA.access_rights,
        }
        eptps = b"".join(root.to_bytes(8, "little") for root in nested_roots)
        tables = {Region.L2_RESET: l1.field_table(reset), Region.EPTP_LIST: eptps}
        return l1.region_pages(caps, fields) | tables

    def nested_word(self, gpa: int, rights: str, *, large: bool) -> int:
        """Write-back; A and D clear."""
        bits = sum(int(_RIGHTS[right]) for right in rights)
        return gpa | bits | MemoryType.WB << _MEMORY_TYPE_SHIFT | (int(Epte.PS) if large else 0) if bits else 0

    def entry_rows(self, entry: Entry, before: Entry | None, capabilities: Mapping[int, int]) -> tuple[Words, ...]:
        """VMWRITEs of what differs; entries flush by their tag alone."""
        wanted, had = _fields(entry, capabilities), _fields(before, capabilities) if before else {}
        # L2 moves to other CR3s, which the exit saves: only the last entry says nothing about it.
        return tuple(
            ("write_field", int(field), value, 0)
            for field, value in wanted.items()
            if field == Field.GUEST_CR3 or had.get(field) != value
        )

    def nested_fault(self, reason: int, detail: int, address: int) -> tuple[int, str] | None:
        """Source: SDM vol. 3C, "Exit Qualification for EPT Violations"."""
        if reason != VmxExit.EPT_VIOLATION:
            return None
        return address, "x" if detail & 4 else "w" if detail & 2 else "r"

    def entry_refused(self, reason: int) -> str:
        """Source: SDM vol. 3C, "Basic VM-Exit Information"."""
        return f"exit {reason:#x}" if reason & ENTRY_FAILURE else ""

    def accessed(self, word: int) -> str:
        """See the protocol."""
        return ("A" if word & Epte.A else "") + ("D" if word & Epte.D else "")


def _has_vmfunc(caps: VmxCaps, capabilities: Mapping[int, int]) -> bool:
    """Source: SDM vol. 3D, appendix "VM Functions"."""
    return bool(caps.proc2 >> 32 & Proc2.ENABLE_VMFUNC and capabilities.get(Msr.VMX_VMFUNC, 0) & _EPTP_SWITCHING)


def _fields(entry: Entry, capabilities: Mapping[int, int]) -> dict[Field, int]:
    caps = VmxCaps.from_msrs(capabilities)
    fields = {
        Field.GUEST_CR3: entry.guest_cr3,
        Field.HOST_CR3: entry.host_cr3,
        Field.HOST_CR0: entry.host_cr0,
        Field.HOST_CR4: entry.host_cr4,
    }
    if has_control(Exit.LOAD_EFER, caps.exit):  # otherwise an exit leaves it as L2 had it
        fields[Field.HOST_IA32_EFER] = entry.host_efer
    second = (Proc2.ENABLE_EPT if entry.nested else Proc2(0)) | (Proc2.ENABLE_VPID if entry.tag else Proc2(0))
    second |= Proc2.ENABLE_INVPCID & Proc2(caps.proc2 >> 32 & 0xFFFF_FFFF)
    if entry.nested and _has_vmfunc(caps, capabilities):
        second |= Proc2.ENABLE_VMFUNC
        fields[Field.VM_FUNCTION_CONTROL] = _EPTP_SWITCHING
        fields[Field.EPTP_LIST_ADDRESS] = int(Region.EPTP_LIST)
    if caps.proc2:
        fields[Field.SECONDARY_VM_EXEC_CONTROL] = adjust(second, caps.proc2)
        fields[Field.CPU_BASED_VM_EXEC_CONTROL] = adjust(Proc.SECONDARY_CONTROLS, caps.proc)
    if entry.nested:
        fields[Field.EPT_POINTER] = entry.nested
    if entry.tag:
        fields[Field.VIRTUAL_PROCESSOR_ID] = entry.tag
    return fields


VMX_LITMUS = _VmxLitmus()
