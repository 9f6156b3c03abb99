"""Constants of encrypted VMs: ``<asm/kvm.h>``. Source: Documentation/virt/kvm/x86/amd-memory-encryption.rst."""

from enum import IntEnum, IntFlag


class SevCommand(IntEnum):
    """``kvm_sev_cmd.id`` of KVM_MEMORY_ENCRYPT_OP; each takes the struct named after it in ``kvm_sev_cmd.data``."""

    INIT = 0
    ES_INIT = 1
    LAUNCH_START = 2
    LAUNCH_UPDATE_DATA = 3
    LAUNCH_UPDATE_VMSA = 4
    LAUNCH_SECRET = 5
    LAUNCH_MEASURE = 6
    LAUNCH_FINISH = 7
    SEND_START = 8
    SEND_UPDATE_DATA = 9
    SEND_UPDATE_VMSA = 10
    SEND_FINISH = 11
    RECEIVE_START = 12
    RECEIVE_UPDATE_DATA = 13
    RECEIVE_UPDATE_VMSA = 14
    RECEIVE_FINISH = 15
    GUEST_STATUS = 16
    DBG_DECRYPT = 17
    DBG_ENCRYPT = 18
    CERT_EXPORT = 19
    GET_ATTESTATION_REPORT = 20
    SEND_CANCEL = 21
    INIT2 = 22
    SNP_LAUNCH_START = 100
    SNP_LAUNCH_UPDATE = 101
    SNP_LAUNCH_FINISH = 102


class SnpPageType(IntEnum):
    """``kvm_sev_snp_launch_update.type``."""

    NORMAL = 1
    ZERO = 3
    UNMEASURED = 4
    SECRETS = 5
    CPUID = 6


class SnpBytes(IntEnum):
    """Lengths of what ``kvm_sev_snp_launch_finish`` points to or holds."""

    ID_BLOCK_SIZE = 96
    ID_AUTH_SIZE = 4096
    FINISH_DATA_SIZE = 32


class SevAttribute(IntEnum):
    """Attributes of ``/dev/kvm`` in the group SystemGroup.SEV."""

    VMSA_FEATURES = 0


C_PREFIX: dict[type[IntEnum] | type[IntFlag], str] = {
    SevCommand: "KVM_SEV_",
    SnpPageType: "KVM_SEV_SNP_PAGE_TYPE_",
    SnpBytes: "KVM_SEV_SNP_",
    SevAttribute: "KVM_X86_SEV_",
}
"""Where the kernel keeps each enum's names."""
