"""The table of fields that L1 writes into its VMCS (KVM calls it vmcs12) for one 64-bit L2.

L2 is flat 64-bit code at CPL 0, with L1's GDT, IDT and TSS. Nothing exits that need not: no external-interrupt, HLT,
INVLPG, RDTSC, CR3 or MOV-DR exiting, no exception. What does exit: VMCALL, CPUID, the VMX instructions and the other
architecturally forced ones; all I/O (unconditional I/O exiting, no bitmaps); all RDMSR and WRMSR (no MSR bitmaps).
L2 must keep IF = 0, because L1's interrupts would go through the IDT that both share.

Source: SDM vol. 3C, "Virtual Machine Control Structures" and "VM Entries" (the checks on each area).
"""

from kvmharness.lean.dataclasses import dataclass
from kvmharness.x86.registers import (
    LONG_MODE_CR0,
    LONG_MODE_CR4,
    LONG_MODE_EFER,
    Cr4,
    Efer,
    Rflags,
    control_register_conflict,
    cr3_reserved_bits,
    is_canonical,
)
from kvmharness.x86.segments import (
    CODE_SELECTOR,
    DATA_SELECTOR,
    GDT_BYTES,
    TSS_SELECTOR,
    Segment,
    long_mode_segments,
)
from kvmharness.x86.vmcs import Field, check_value
from kvmharness.x86.vmx_controls import Entry, Exit, MissingControlError, Pin, Proc, Proc2, VmxCaps, adjust, has_control

NO_LINK_POINTER = (1 << 64) - 1
DR7_RESET = 0x400
VMX_CR4 = LONG_MODE_CR4 | Cr4.VMXE
"""CR4 of L1 in VMX operation, and of L2, for which VMXE is a fixed bit too."""


@dataclass(frozen=True, slots=True)
class DescriptorTables:
    """Where the descriptor tables are that L1 and L2 share; linear addresses, limits in bytes less one."""

    gdt_base: int
    idt_base: int
    tss_base: int
    gdt_limit: int = GDT_BYTES - 1
    idt_limit: int = 32 * 16 - 1


@dataclass(frozen=True, slots=True)
class GuestState:
    """Where and how L2 starts. Addresses are L2's linear ones; `cr3` is the value of the GUEST_CR3 field."""

    rip: int
    rsp: int
    cr3: int
    tables: DescriptorTables
    cr0: int = int(LONG_MODE_CR0)
    cr4: int = int(VMX_CR4)
    efer: int = int(LONG_MODE_EFER)
    rflags: int = int(Rflags.FIXED)


@dataclass(frozen=True, slots=True)
class HostState:
    """How L1 continues after a VM exit: at `rip`, on the stack `rsp`, in the address space `cr3`."""

    rip: int
    rsp: int
    cr3: int
    tables: DescriptorTables
    cr0: int = int(LONG_MODE_CR0)
    cr4: int = int(VMX_CR4)
    efer: int = int(LONG_MODE_EFER)


def vmcs12(
    caps: VmxCaps,
    *,
    guest: GuestState,
    host: HostState,
    eptp: int | None = None,
    vpid: int = 0,
    proc2: Proc2 = Proc2(0),  # noqa: B008 - immutable
) -> list[tuple[Field, int]]:
    """The complete table, in encoding order; every field is one that L1 may write.

    A test that wants VM entry to refuse something replaces one row of a good table.

    Args:
        caps: what L1's vCPU offers.
        guest: L2's start.
        host: L1's continuation.
        eptp: the EPT_POINTER, or None when L1 gives L2 no EPT.
        vpid: 1 to 65535, or 0 for no VPID (every transition then flushes).
        proc2: further secondary controls, for example ENABLE_INVPCID for an L2 that executes INVPCID.

    Raises:
        MissingControlError: this vCPU lacks EPT, VPID or another control; the message names it.
        ValueError: a state that VM entry would refuse.
    """
    _check_state(caps, "L2's", guest)
    _check_state(caps, "L1's", host)
    if not guest.rflags & Rflags.FIXED:
        raise ValueError(f"L2's RFLAGS {guest.rflags:#x}: bit 1 must be 1")
    values = {
        **_controls(caps, eptp, vpid, proc2),
        **_efer_and_modes(caps, guest, host),
        **_guest_fields(guest),
        **_host_fields(host),
    }
    return [(field, check_value(field, values[field])) for field in sorted(values)]


def _check_state(caps: VmxCaps, whose: str, state: GuestState | HostState) -> None:
    caps.check_control_registers(whose, state.cr0, state.cr4)
    conflict = control_register_conflict(state.cr0, state.cr4, state.efer)
    if not state.efer & Efer.LMA:
        conflict = "EFER.LMA must be 1, both levels are 64-bit"
    if conflict:
        raise ValueError(f"{whose} control registers: {conflict}")
    reserved = cr3_reserved_bits(state.cr3, physical_bits=52, pcide=bool(state.cr4 & Cr4.PCIDE), mov=False)
    if reserved:
        raise ValueError(f"{whose} CR3 {state.cr3:#x}: bits {reserved:#x} are reserved in a VMCS")
    tables = state.tables
    for address in (state.rip, tables.gdt_base, tables.idt_base, tables.tss_base):
        if not is_canonical(address):
            raise ValueError(f"{whose} state has the non-canonical address {address:#x}")


def _controls(caps: VmxCaps, eptp: int | None, vpid: int, extra: Proc2) -> dict[Field, int]:
    if not 0 <= vpid < 1 << 16:
        raise ValueError(f"VPID {vpid:#x}: must be in 0..0xffff, 0 for none")
    second = extra
    second |= Proc2.ENABLE_EPT if eptp is not None else 0
    second |= Proc2.ENABLE_VPID if vpid else 0
    proc = Proc.UNCONDITIONAL_IO_EXITING | (Proc.SECONDARY_CONTROLS if second else 0)
    if second:
        _check_secondary(caps, second)
    fields = {
        Field.PIN_BASED_VM_EXEC_CONTROL: adjust(Pin(0), caps.pin),
        Field.CPU_BASED_VM_EXEC_CONTROL: adjust(proc, caps.proc),
        Field.EXCEPTION_BITMAP: 0,
        Field.PAGE_FAULT_ERROR_CODE_MASK: 0,
        Field.PAGE_FAULT_ERROR_CODE_MATCH: 0,
        Field.CR3_TARGET_COUNT: 0,
        Field.VM_EXIT_MSR_STORE_COUNT: 0,
        Field.VM_EXIT_MSR_LOAD_COUNT: 0,
        Field.VM_ENTRY_MSR_LOAD_COUNT: 0,
        Field.VM_ENTRY_INTR_INFO_FIELD: 0,
        # L2 owns all bits of CR0 and CR4, so the shadows mean nothing.
        Field.CR0_GUEST_HOST_MASK: 0,
        Field.CR4_GUEST_HOST_MASK: 0,
        Field.CR0_READ_SHADOW: 0,
        Field.CR4_READ_SHADOW: 0,
        Field.VMCS_LINK_POINTER: NO_LINK_POINTER,
    }
    if second:
        fields[Field.SECONDARY_VM_EXEC_CONTROL] = adjust(second, caps.proc2)
    if eptp is not None:
        caps.check_eptp(eptp)
        fields[Field.EPT_POINTER] = eptp
    if vpid:
        fields[Field.VIRTUAL_PROCESSOR_ID] = vpid
    return fields


def _efer_and_modes(caps: VmxCaps, guest: GuestState, host: HostState) -> dict[Field, int]:
    entry, exits = Entry.IA32E_MODE_GUEST, Exit.HOST_ADDRESS_SPACE_SIZE
    fields = {}
    # Where VMX cannot load EFER, VM entry and exit set LMA and LME by themselves, and its other bits stay.
    if has_control(Entry.LOAD_EFER, caps.entry) and has_control(Exit.LOAD_EFER, caps.exit):
        entry |= Entry.LOAD_EFER
        exits |= Exit.LOAD_EFER
        fields = {Field.GUEST_IA32_EFER: guest.efer, Field.HOST_IA32_EFER: host.efer}
    fields[Field.VM_ENTRY_CONTROLS] = adjust(entry, caps.entry)
    fields[Field.VM_EXIT_CONTROLS] = adjust(exits, caps.exit)
    return fields


def _check_secondary(caps: VmxCaps, second: Proc2) -> None:
    # adjust() would say "SECONDARY_CONTROLS" on a processor without any; what was asked for helps more.
    lacking = second & ~Proc2(caps.proc2 >> 32)
    if not lacking:
        return
    names = ", ".join(str(bit.name) for bit in Proc2 if bit & lacking)
    raise MissingControlError(
        f"this vCPU's VMX has no {names} (IA32_VMX_PROCBASED_CTLS2 {caps.proc2:#x})",
        "use the workloads without it, or a host whose processor has it",
    )


def _guest_fields(guest: GuestState) -> dict[Field, int]:
    fields = {
        Field.GUEST_CR0: guest.cr0,
        Field.GUEST_CR3: guest.cr3,
        Field.GUEST_CR4: guest.cr4,
        Field.GUEST_DR7: DR7_RESET,
        Field.GUEST_RIP: guest.rip,
        Field.GUEST_RSP: guest.rsp,
        Field.GUEST_RFLAGS: guest.rflags,
        Field.GUEST_IA32_DEBUGCTL: 0,
        Field.GUEST_SYSENTER_CS: 0,
        Field.GUEST_SYSENTER_ESP: 0,
        Field.GUEST_SYSENTER_EIP: 0,
        Field.GUEST_INTERRUPTIBILITY_INFO: 0,
        Field.GUEST_ACTIVITY_STATE: 0,
        Field.GUEST_PENDING_DBG_EXCEPTIONS: 0,
        Field.GUEST_GDTR_BASE: guest.tables.gdt_base,
        Field.GUEST_GDTR_LIMIT: guest.tables.gdt_limit,
        Field.GUEST_IDTR_BASE: guest.tables.idt_base,
        Field.GUEST_IDTR_LIMIT: guest.tables.idt_limit,
    }
    registers = long_mode_segments(guest.tables.tss_base)
    registers["ldtr"] = registers.pop("ldt")
    for name, segment in registers.items():
        fields.update(_segment_fields(name.upper(), segment))
    return fields


def _segment_fields(name: str, segment: Segment) -> dict[Field, int]:
    return {
        Field[f"GUEST_{name}_SELECTOR"]: segment.selector,
        Field[f"GUEST_{name}_BASE"]: segment.base,
        Field[f"GUEST_{name}_LIMIT"]: segment.limit,
        Field[f"GUEST_{name}_AR_BYTES"]: segment.access_rights,
    }


def _host_fields(host: HostState) -> dict[Field, int]:
    fields = {
        Field.HOST_CR0: host.cr0,
        Field.HOST_CR3: host.cr3,
        Field.HOST_CR4: host.cr4,
        Field.HOST_RIP: host.rip,
        Field.HOST_RSP: host.rsp,
        Field.HOST_CS_SELECTOR: CODE_SELECTOR,
        Field.HOST_TR_SELECTOR: TSS_SELECTOR,
        Field.HOST_FS_BASE: 0,
        Field.HOST_GS_BASE: 0,
        Field.HOST_TR_BASE: host.tables.tss_base,
        Field.HOST_GDTR_BASE: host.tables.gdt_base,
        Field.HOST_IDTR_BASE: host.tables.idt_base,
        Field.HOST_IA32_SYSENTER_CS: 0,
        Field.HOST_IA32_SYSENTER_ESP: 0,
        Field.HOST_IA32_SYSENTER_EIP: 0,
    }
    for name in ("DS", "ES", "FS", "GS", "SS"):
        fields[Field[f"HOST_{name}_SELECTOR"]] = DATA_SELECTOR
    return fields
