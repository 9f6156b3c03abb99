"""Names of the kernel's header that need not be declared here, and names of ours that an old header need not have."""

import re

CHECKED = {"6.1": 192, "6.12": 117}
"""The releases whose headers the declarations were written from: series and patch level."""

_TEXT = """
KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP KVM_CAP_GUEST_MEMFD KVM_CAP_MEMORY_ATTRIBUTES KVM_CAP_MEMORY_FAULT_INFO
KVM_CAP_PMU_EVENT_MASKED_EVENTS KVM_CAP_PRE_FAULT_MEMORY KVM_CAP_USER_MEMORY2 KVM_CAP_VM_TYPES
KVM_CAP_X86_APIC_BUS_CYCLES_NS KVM_CAP_X86_GUEST_MODE
KVM_CREATE_GUEST_MEMFD KVM_PRE_FAULT_MEMORY KVM_SET_MEMORY_ATTRIBUTES KVM_SET_USER_MEMORY_REGION2
KVM_DEV_VFIO_FILE KVM_DEV_VFIO_FILE_ADD KVM_DEV_VFIO_FILE_DEL
KVM_EXIT_HYPERCALL_LONG_MODE KVM_EXIT_MEMORY_FAULT KVM_MEMORY_ATTRIBUTE_PRIVATE KVM_MEMORY_EXIT_FLAG_PRIVATE
KVM_MEM_GUEST_MEMFD
KVM_PMU_EVENT_FLAG_MASKED_EVENTS KVM_PMU_MASKED_ENTRY_EVENT_SELECT KVM_PMU_MASKED_ENTRY_EXCLUDE
KVM_PMU_MASKED_ENTRY_UMASK_MASK KVM_PMU_MASKED_ENTRY_UMASK_MATCH
KVM_RUN_X86_GUEST_MODE
KVM_SEV_INIT2 KVM_SEV_SNP_FINISH_DATA_SIZE KVM_SEV_SNP_ID_AUTH_SIZE KVM_SEV_SNP_ID_BLOCK_SIZE
KVM_SEV_SNP_LAUNCH_FINISH KVM_SEV_SNP_LAUNCH_START KVM_SEV_SNP_LAUNCH_UPDATE KVM_SEV_SNP_PAGE_TYPE_CPUID
KVM_SEV_SNP_PAGE_TYPE_NORMAL KVM_SEV_SNP_PAGE_TYPE_SECRETS KVM_SEV_SNP_PAGE_TYPE_UNMEASURED KVM_SEV_SNP_PAGE_TYPE_ZERO
KVM_X86_DEFAULT_VM KVM_X86_SEV_ES_VM KVM_X86_SEV_VM KVM_X86_SNP_VM KVM_X86_SW_PROTECTED_VM
KVM_X86_GRP_SEV KVM_X86_GRP_SYSTEM KVM_X86_SEV_VMSA_FEATURES
KVM_X86_QUIRK_IGNORE_GUEST_PAT KVM_X86_QUIRK_SLOT_ZAP_ALL KVM_X86_QUIRK_STUFF_FEATURE_MSRS
KVM_X86_QUIRK_VMCS12_ALLOW_FREEZE_IN_SMM
KVM_XEN_ATTR_TYPE_RUNSTATE_UPDATE_FLAG KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA KVM_XEN_HVM_CONFIG_PVCLOCK_TSC_UNSTABLE
KVM_XEN_HVM_CONFIG_RUNSTATE_UPDATE_FLAG KVM_XEN_HVM_CONFIG_SHARED_INFO_HVA KVM_XEN_INVALID_GFN KVM_XEN_INVALID_GPA
KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO_HVA

kvm_create_guest_memfd kvm_memory_attributes kvm_pre_fault_memory kvm_sev_init kvm_sev_snp_launch_finish
kvm_sev_snp_launch_start kvm_sev_snp_launch_update kvm_userspace_memory_region2
kvm_run.hypercall.flags kvm_run.iocsr_io kvm_run.iocsr_io.data kvm_run.iocsr_io.is_write kvm_run.iocsr_io.len
kvm_run.iocsr_io.phys_addr kvm_run.memory_fault kvm_run.memory_fault.flags kvm_run.memory_fault.gpa
kvm_run.memory_fault.size
kvm_sev_attestation_report.pad0 kvm_sev_cmd.pad0 kvm_sev_dbg.pad0 kvm_sev_launch_measure.pad0
kvm_sev_launch_secret.pad0 kvm_sev_launch_secret.pad1 kvm_sev_launch_secret.pad2 kvm_sev_launch_start.pad0
kvm_sev_launch_start.pad1 kvm_sev_launch_update_data.pad0 kvm_sev_receive_start.pad0 kvm_sev_receive_start.pad1
kvm_sev_receive_update_data.pad0 kvm_sev_receive_update_data.pad1 kvm_sev_receive_update_data.pad2
kvm_sev_send_start.pad0 kvm_sev_send_start.pad1 kvm_sev_send_start.pad2 kvm_sev_send_start.pad3 kvm_sev_send_start.pad4
kvm_sev_send_update_data.pad0 kvm_sev_send_update_data.pad1 kvm_sev_send_update_data.pad2
kvm_xen_hvm_attr.u.runstate_update_flag kvm_xen_hvm_attr.u.shared_info.hva kvm_xen_vcpu_attr.u.hva
"""
NEWER_THAN_6_1 = {f"struct {name}" if name.startswith("kvm_") else name for name in _TEXT.split()}
"""What the header of Linux 6.1 lacks of ours; in that of 6.12 it is all there."""

OTHERS = {
    "of another architecture": re.compile(
        r"(KVM|struct kvm)_(\w+_)?(S390|PPC|ARM|ARM64|MIPS|SPAPR|RISCV|LOONGARCH|IA64|s390|ppc|arm|spapr)(_|$)"
        r"|KVM_DEV_TYPE_(FSL_MPIC_\d+|XICS|FLIC|XIVE|MAX)$|KVM_PV_\w+$|struct kvm_pv_cmd$"
        r"|KVM_EXIT_(DCR|EPR|OSI|PAPR_HCALL|WATCHDOG)$|KVM_MP_STATE_(STOPPED|CHECK_STOP|OPERATING|LOAD|SUSPENDED)$"
        r"|KVM_CAP_(SW_TLB|IRQ_MPIC|IRQ_XICS|MSI_DEVID|PTP_KVM|COUNTER_OFFSET)$|KVM_(DIRTY_TLB|ALLOCATE_RMA)$"
        r"|KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY$|KVM_MMU_FSL_BOOKE_(NO)?HV$|struct kvm_(config|dirty)_tlb$"
    ),
    "of an interface that no kernel since 4.15 has": re.compile(
        r"(__KVM_DEPRECATED|KVM_TRC|KVM_TRACE)_\w+$|KVM_(DE)?ASSIGN_\w+$|KVM_DEV_(ASSIGN|IRQ)_\w+$|KVM_MAX_MSIX_PER_DEV$"
        r"|KVM_DEBUG_GUEST$|KVM_SET_MEMORY_(REGION|ALIAS)$|KVM_CAP_(IOMMU|ASSIGN_DEV_IRQ|PCI_2_3)$"
        r"|struct kvm_(assigned_\w+|breakpoint|debug_guest|memory_alias|memory_region|user_trace_setup)$"
        r"|KVM_CAP_MANUAL_DIRTY_LOG_PROTECT$"
    ),
    "another spelling of what is declared": re.compile(
        r"KVM_DEV_VFIO_GROUP(_ADD|_DEL)?$|struct kvm_run\.hypercall\.pad$|KVM_API_VERSION$"
    ),
    "derived from what is declared": re.compile(
        r"KVM_\w+_(VALID_MASK|VALID_FLAG_MASK|VALID_FIELDS|MASK_SHIFT|SHIFT|MAX)$|KVM_X86_DISABLE_VALID_EXITS$|KVM_MAX_XCRS$"
        r"|KVM_STATS_(TYPE|UNIT|BASE)_MASK$|KVM_DIRTY_GFN_F_MASK$|KVM_PMU_ENCODE_MASKED_ENTRY\(.*"
    ),
    "of the header's own making": re.compile(r"__KVM_HAVE_\w+$|_*\w+_KVM_H$"),
    "an array of no length at the end": re.compile(r"struct kvm_nested_state\.data(\..*)?$"),
}
"""Why a name that a header has is no omission here."""


def why_not(name):
    """The reason for which a name is left out, or an empty string."""
    return next((reason for reason, pattern in OTHERS.items() if pattern.match(name)), "")
