"""What VMX reports: exit reasons, exit qualifications, VM-instruction errors, VM-entry failures, in words.

Source: SDM vol. 3D, appendix "VMX Basic Exit Reasons"; vol. 3C, "Basic VM-Exit Information", "VM-Instruction Error
Numbers", "VM-Entry Failures During or After Loading Guest State".
"""

from enum import IntEnum

from kvmharness.lean.dataclasses import dataclass

ENTRY_FAILURE = 1 << 31
"""Bit of the exit-reason field: the VM entry failed, L2 never ran."""


class VmxExit(IntEnum):
    """Basic exit reasons, bits 15:0 of VM_EXIT_REASON; the names are those of the kernel's EXIT_REASON_ defines."""

    EXCEPTION_NMI = 0
    EXTERNAL_INTERRUPT = 1
    TRIPLE_FAULT = 2
    INIT_SIGNAL = 3
    SIPI_SIGNAL = 4
    INTERRUPT_WINDOW = 7
    NMI_WINDOW = 8
    TASK_SWITCH = 9
    CPUID = 10
    HLT = 12
    INVD = 13
    INVLPG = 14
    RDPMC = 15
    RDTSC = 16
    VMCALL = 18
    VMCLEAR = 19
    VMLAUNCH = 20
    VMPTRLD = 21
    VMPTRST = 22
    VMREAD = 23
    VMRESUME = 24
    VMWRITE = 25
    VMOFF = 26
    VMON = 27
    CR_ACCESS = 28
    DR_ACCESS = 29
    IO_INSTRUCTION = 30
    MSR_READ = 31
    MSR_WRITE = 32
    INVALID_STATE = 33
    MSR_LOAD_FAIL = 34
    MWAIT_INSTRUCTION = 36
    MONITOR_TRAP_FLAG = 37
    MONITOR_INSTRUCTION = 39
    PAUSE_INSTRUCTION = 40
    MCE_DURING_VMENTRY = 41
    TPR_BELOW_THRESHOLD = 43
    APIC_ACCESS = 44
    EOI_INDUCED = 45
    GDTR_IDTR = 46
    LDTR_TR = 47
    EPT_VIOLATION = 48
    EPT_MISCONFIG = 49
    INVEPT = 50
    RDTSCP = 51
    PREEMPTION_TIMER = 52
    INVVPID = 53
    WBINVD = 54
    XSETBV = 55
    APIC_WRITE = 56
    RDRAND = 57
    INVPCID = 58
    VMFUNC = 59
    ENCLS = 60
    RDSEED = 61
    PML_FULL = 62
    XSAVES = 63
    XRSTORS = 64
    UMWAIT = 67
    TPAUSE = 68
    BUS_LOCK = 74
    NOTIFY = 75


class VmInstructionError(IntEnum):
    """VM_INSTRUCTION_ERROR after VMfailValid; the names are those of the kernel's VMXERR_ enum, without prefix."""

    VMCALL_IN_VMX_ROOT_OPERATION = 1
    VMCLEAR_INVALID_ADDRESS = 2
    VMCLEAR_VMXON_POINTER = 3
    VMLAUNCH_NONCLEAR_VMCS = 4
    VMRESUME_NONLAUNCHED_VMCS = 5
    VMRESUME_AFTER_VMXOFF = 6
    ENTRY_INVALID_CONTROL_FIELD = 7
    ENTRY_INVALID_HOST_STATE_FIELD = 8
    VMPTRLD_INVALID_ADDRESS = 9
    VMPTRLD_VMXON_POINTER = 10
    VMPTRLD_INCORRECT_VMCS_REVISION_ID = 11
    UNSUPPORTED_VMCS_COMPONENT = 12
    VMWRITE_READ_ONLY_VMCS_COMPONENT = 13
    VMXON_IN_VMX_ROOT_OPERATION = 15
    ENTRY_INVALID_EXECUTIVE_VMCS_POINTER = 16
    ENTRY_NONLAUNCHED_EXECUTIVE_VMCS = 17
    ENTRY_EXECUTIVE_VMCS_POINTER_NOT_VMXON_POINTER = 18
    VMCALL_NONCLEAR_VMCS = 19
    VMCALL_INVALID_VM_EXIT_CONTROL_FIELDS = 20
    VMCALL_INCORRECT_MSEG_REVISION_ID = 22
    VMXOFF_UNDER_DUAL_MONITOR_TREATMENT_OF_SMIS_AND_SMM = 23
    VMCALL_INVALID_SMM_MONITOR_FEATURES = 24
    ENTRY_INVALID_VM_EXECUTION_CONTROL_FIELDS_IN_EXECUTIVE_VMCS = 25
    ENTRY_EVENTS_BLOCKED_BY_MOV_SS = 26
    INVALID_OPERAND_TO_INVEPT_INVVPID = 28


_WHAT_TO_CHECK = {
    VmInstructionError.VMLAUNCH_NONCLEAR_VMCS: "VMCLEAR the region before the first VMLAUNCH, then use VMRESUME",
    VmInstructionError.VMRESUME_NONLAUNCHED_VMCS: "the first entry after VMCLEAR must be a VMLAUNCH",
    VmInstructionError.ENTRY_INVALID_CONTROL_FIELD: "compare each control with its capability MSR; then EPTP and VPID",
    VmInstructionError.ENTRY_INVALID_HOST_STATE_FIELD: "HOST_CR0, CR3, CR4, selectors, canonical bases, EFER",
    VmInstructionError.VMPTRLD_INCORRECT_VMCS_REVISION_ID: "the region must start with the revision of IA32_VMX_BASIC",
    VmInstructionError.UNSUPPORTED_VMCS_COMPONENT: "this vCPU has no such VMCS field",
    VmInstructionError.INVALID_OPERAND_TO_INVEPT_INVVPID: "type, descriptor or EPTP not supported",
}


def describe_vm_instruction_error(number: int) -> str:
    """The number, its name and where to look."""
    try:
        error = VmInstructionError(number)
    except ValueError:
        return f"VM-instruction error {number} (not a known number)"
    advice = _WHAT_TO_CHECK.get(error)
    return f"VM-instruction error {number}, {error.name}" + (f": {advice}" if advice else "")


def describe_exit(exit_reason: int, qualification: int = 0) -> str:
    """The VM_EXIT_REASON and EXIT_QUALIFICATION fields in words; works for any numbers."""
    basic = exit_reason & 0xFFFF
    try:
        reason = VmxExit(basic)
    except ValueError:
        return f"VM exit with unknown reason {basic} ({exit_reason:#x}), qualification {qualification:#x}"
    if exit_reason & ENTRY_FAILURE:
        return f"VM entry failed: {describe_entry_failure(reason, qualification)}"
    detail = _describe_qualification(reason, qualification)
    return f"VM exit {reason.name} ({basic})" + (f": {detail}" if detail else "")


_GUEST_STATE_FAILURES = {0: "", 2: " while loading the PDPTEs", 3: " (NMI injection)", 4: " (VMCS link pointer)"}


def describe_entry_failure(reason: int, qualification: int) -> str:
    """Why a VM entry failed after its controls and host state were accepted."""
    if reason == VmxExit.INVALID_STATE:
        where = _GUEST_STATE_FAILURES.get(qualification, f" (qualification {qualification:#x})")
        return f"invalid guest state{where}; check GUEST_CR0, CR3, CR4, EFER, RFLAGS and the segments' access rights"
    if reason == VmxExit.MSR_LOAD_FAIL:
        return f"entry {qualification} of the VM-entry MSR-load list cannot be loaded"
    if reason == VmxExit.MCE_DURING_VMENTRY:
        return "a machine check came during the entry"
    return f"reason {reason}, qualification {qualification:#x}"


@dataclass(frozen=True, slots=True)
class CrAccess:
    """EXIT_QUALIFICATION of CR_ACCESS.

    Attributes:
        cr: number of the control register, 0 for CLTS and LMSW.
        kind: "mov to", "mov from", "clts" or "lmsw".
        gpr: number of the general register of a MOV (0 = RAX, 4 = RSP).
        lmsw_source: operand of LMSW.
    """

    cr: int
    kind: str
    gpr: int
    lmsw_source: int

    @classmethod
    def decode(cls, qualification: int) -> "CrAccess":
        """Takes the field apart. Source: SDM vol. 3C, "Exit Qualification for Control-Register Accesses"."""
        kind = ("mov to", "mov from", "clts", "lmsw")[qualification >> 4 & 3]
        return cls(qualification & 0xF, kind, qualification >> 8 & 0xF, qualification >> 16 & 0xFFFF)

    def __str__(self) -> str:
        return f"{self.kind} CR{self.cr}" + (f", register {self.gpr}" if self.kind.startswith("mov") else "")


@dataclass(frozen=True, slots=True)
class IoAccess:
    """EXIT_QUALIFICATION of IO_INSTRUCTION: port and size in bytes."""

    port: int
    size_bytes: int
    is_in: bool
    is_string: bool
    is_rep: bool

    @classmethod
    def decode(cls, qualification: int) -> "IoAccess":
        """Takes the field apart. Source: SDM vol. 3C, "Exit Qualification for I/O Instructions"."""
        flags = (bool(qualification & 1 << bit) for bit in (3, 4, 5))
        return cls(qualification >> 16 & 0xFFFF, (qualification & 7) + 1, *flags)

    def __str__(self) -> str:
        prefix = "rep " if self.is_rep else ""
        verb = ("ins" if self.is_in else "outs") if self.is_string else ("in" if self.is_in else "out")
        return f"{prefix}{verb} port {self.port:#x}, {self.size_bytes} bytes"


@dataclass(frozen=True, slots=True)
class EptViolation:
    """EXIT_QUALIFICATION of EPT_VIOLATION: what was tried, and what the EPT entries together allow."""

    read: bool
    write: bool
    fetch: bool
    readable: bool
    writable: bool
    executable: bool
    linear_address_valid: bool
    during_walk: bool  # of the guest's own page tables, not the final access

    @classmethod
    def decode(cls, qualification: int) -> "EptViolation":
        """Takes the field apart. Source: SDM vol. 3C, "Exit Qualification for EPT Violations"."""
        read, write, fetch, readable, writable, executable, _, valid, translated = (
            bool(qualification & 1 << bit) for bit in range(9)
        )
        return cls(read, write, fetch, readable, writable, executable, valid, valid and not translated)

    def __str__(self) -> str:
        tried = [word for word, on in (("read", self.read), ("write", self.write), ("fetch", self.fetch)) if on]
        rights = (("r", self.readable), ("w", self.writable), ("x", self.executable))
        allowed = "".join(letter if on else "-" for letter, on in rights)
        return f"{'+'.join(tried) or 'no access'}, allowed {allowed}" + (
            ", in a table walk" if self.during_walk else ""
        )


def _describe_qualification(reason: VmxExit, qualification: int) -> str:
    if reason is VmxExit.CR_ACCESS:
        return str(CrAccess.decode(qualification))
    if reason is VmxExit.IO_INSTRUCTION:
        return str(IoAccess.decode(qualification))
    if reason is VmxExit.EPT_VIOLATION:
        return str(EptViolation.decode(qualification))
    if reason is VmxExit.INVLPG:
        return f"address {qualification:#x}"
    return f"qualification {qualification:#x}" if qualification else ""
