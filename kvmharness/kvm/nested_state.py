"""What KVM_GET_NESTED_STATE answers, taken apart: the header, and the fields of the VMCS12 that L1 has loaded.

KVM keeps a VMCS12 in a layout of its own, which it promises not to change, since guests migrate with it.
Source: Linux, arch/x86/kvm/vmx/vmcs12.h, ``struct vmcs12``; api.rst, "KVM_GET_NESTED_STATE".
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from kvmharness.abi.constants import NestedFlag, NestedFormat
from kvmharness.x86.vmcs import Field

# Runs of fields that follow each other: offset of the first, bytes of each, names in lower case as in the struct.
_LAYOUT = (
    (40, 8, "io_bitmap_a io_bitmap_b msr_bitmap vm_exit_msr_store_addr vm_exit_msr_load_addr vm_entry_msr_load_addr"),
    (88, 8, "tsc_offset virtual_apic_page_addr apic_access_addr posted_intr_desc_addr ept_pointer"),
    (128, 8, "eoi_exit_bitmap0 eoi_exit_bitmap1 eoi_exit_bitmap2 eoi_exit_bitmap3 xss_exit_bitmap"),
    (168, 8, "guest_physical_address vmcs_link_pointer guest_ia32_debugctl guest_ia32_pat guest_ia32_efer"),
    (208, 8, "guest_ia32_perf_global_ctrl guest_pdptr0 guest_pdptr1 guest_pdptr2 guest_pdptr3 guest_bndcfgs"),
    (256, 8, "host_ia32_pat host_ia32_efer host_ia32_perf_global_ctrl vmread_bitmap vmwrite_bitmap"),
    (296, 8, "vm_function_control eptp_list_address pml_address encls_exiting_bitmap tsc_multiplier"),
    (344, 8, "cr0_guest_host_mask cr4_guest_host_mask cr0_read_shadow cr4_read_shadow"),
    (408, 8, "exit_qualification guest_linear_address guest_cr0 guest_cr3 guest_cr4 guest_es_base guest_cs_base"),
    (464, 8, "guest_ss_base guest_ds_base guest_fs_base guest_gs_base guest_ldtr_base guest_tr_base guest_gdtr_base"),
    (520, 8, "guest_idtr_base guest_dr7 guest_rsp guest_rip guest_rflags guest_pending_dbg_exceptions"),
    (568, 8, "guest_sysenter_esp guest_sysenter_eip host_cr0 host_cr3 host_cr4 host_fs_base host_gs_base host_tr_base"),
    (632, 8, "host_gdtr_base host_idtr_base host_ia32_sysenter_esp host_ia32_sysenter_eip host_rsp host_rip"),
    (744, 4, "pin_based_vm_exec_control cpu_based_vm_exec_control exception_bitmap page_fault_error_code_mask"),
    (760, 4, "page_fault_error_code_match cr3_target_count vm_exit_controls vm_exit_msr_store_count"),
    (776, 4, "vm_exit_msr_load_count vm_entry_controls vm_entry_msr_load_count vm_entry_intr_info_field"),
    (792, 4, "vm_entry_exception_error_code vm_entry_instruction_len tpr_threshold secondary_vm_exec_control"),
    (808, 4, "vm_instruction_error vm_exit_reason vm_exit_intr_info vm_exit_intr_error_code idt_vectoring_info_field"),
    (828, 4, "idt_vectoring_error_code vm_exit_instruction_len vmx_instruction_info guest_es_limit guest_cs_limit"),
    (848, 4, "guest_ss_limit guest_ds_limit guest_fs_limit guest_gs_limit guest_ldtr_limit guest_tr_limit"),
    (872, 4, "guest_gdtr_limit guest_idtr_limit guest_es_ar_bytes guest_cs_ar_bytes guest_ss_ar_bytes"),
    (892, 4, "guest_ds_ar_bytes guest_fs_ar_bytes guest_gs_ar_bytes guest_ldtr_ar_bytes guest_tr_ar_bytes"),
    (912, 4, "guest_interruptibility_info guest_activity_state guest_sysenter_cs host_ia32_sysenter_cs"),
    (928, 4, "vmx_preemption_timer_value"),
    (960, 2, "virtual_processor_id posted_intr_nv guest_es_selector guest_cs_selector guest_ss_selector"),
    (970, 2, "guest_ds_selector guest_fs_selector guest_gs_selector guest_ldtr_selector guest_tr_selector"),
    (980, 2, "guest_intr_status host_es_selector host_cs_selector host_ss_selector host_ds_selector host_fs_selector"),
    (992, 2, "host_gs_selector host_tr_selector guest_pml_index"),
)

_HEADER = struct.Struct("<HHI")  # flags, format, size
_VMX = struct.Struct("<QQHHIQ")  # vmxon_pa, vmcs12_pa, smm flags, pad, flags, preemption_timer_deadline
_HEADER_BYTES = 128  # the data follow
_NO_ADDRESS = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class NestedState:
    """The nested state of one vCPU.

    Attributes:
        format: whose nested virtualization.
        flags: what state it is in: GUEST_MODE when L2 runs.
        vmxon_pa, vmcs12_pa: gpas of L1's VMXON region and its current VMCS; None where there is none, or on SVM.
        vmcs12: the fields; empty where there is no current VMCS.
    """

    format: NestedFormat
    flags: NestedFlag
    vmxon_pa: int | None = None
    vmcs12_pa: int | None = None
    vmcs12: Mapping[Field, int] | None = None

    def __str__(self) -> str:
        flags = "|".join(flag.name or "" for flag in NestedFlag if flag in self.flags) or "none"
        text = f"format {self.format.name}, flags {flags}"
        if self.format == NestedFormat.VMX:
            places = (("VMXON region", self.vmxon_pa), ("VMCS12", self.vmcs12_pa))
            text += "".join(f", {name} {'none' if gpa is None else f'at gpa {gpa:#x}'}" for name, gpa in places)
        return text


def offsets() -> dict[Field, tuple[int, int]]:
    """Where each field lies in KVM's layout: offset and length in bytes."""
    places = {}
    for first, length, names in _LAYOUT:
        for index, name in enumerate(names.split()):
            places[Field[name.upper()]] = (first + index * length, length)
    return places


def decode(blob: bytes) -> NestedState:
    """Takes a ``struct kvm_nested_state`` apart.

    Raises:
        ValueError: it is too short, or of a format that is not known.
    """
    if len(blob) < _HEADER_BYTES:
        raise ValueError(f"a nested state of {len(blob)} bytes")
    flags, kind, _ = _HEADER.unpack_from(blob)
    if kind != NestedFormat.VMX:
        return NestedState(NestedFormat(kind), NestedFlag(flags))
    vmxon, vmcs12, *_ = _VMX.unpack_from(blob, _HEADER.size)
    page = blob[_HEADER_BYTES:]
    fields = None
    if vmcs12 != _NO_ADDRESS and page:
        fields = {field: int.from_bytes(page[at : at + size], "little") for field, (at, size) in offsets().items()}
    return NestedState(NestedFormat.VMX, NestedFlag(flags), _address(vmxon), _address(vmcs12), fields)


def differences(loaded: Mapping[int, int], now: Mapping[Field, int]) -> list[tuple[Field, int, int]]:
    """Fields that have another value than L1 loaded, 0 where it loaded none: (field, loaded, now)."""
    return [
        (field, loaded.get(field, 0), value) for field, value in sorted(now.items()) if loaded.get(field, 0) != value
    ]


def _address(value: int) -> int | None:
    return None if value == _NO_ADDRESS else value
