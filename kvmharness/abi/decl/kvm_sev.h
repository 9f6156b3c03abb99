/* What KVM_MEMORY_ENCRYPT_OP takes: <asm/kvm.h> since Linux 6.9, before that <linux/kvm.h>. */
struct kvm_sev_cmd { __u32 id; __u32 pad0; __u64 data; __u32 error; __u32 sev_fd; };
struct kvm_sev_init { __u64 vmsa_features; __u32 flags; __u16 ghcb_version; __u16 pad1; __u32 pad2[8]; };

struct kvm_sev_launch_start {
    __u32 handle;
    __u32 policy;
    __u64 dh_uaddr;
    __u32 dh_len;
    __u32 pad0;
    __u64 session_uaddr;
    __u32 session_len;
    __u32 pad1;
};

struct kvm_sev_launch_update_data { __u64 uaddr; __u32 len; __u32 pad0; };

struct kvm_sev_launch_secret {
    __u64 hdr_uaddr;
    __u32 hdr_len;
    __u32 pad0;
    __u64 guest_uaddr;
    __u32 guest_len;
    __u32 pad1;
    __u64 trans_uaddr;
    __u32 trans_len;
    __u32 pad2;
};

struct kvm_sev_launch_measure { __u64 uaddr; __u32 len; __u32 pad0; };
struct kvm_sev_guest_status { __u32 handle; __u32 policy; __u32 state; };
struct kvm_sev_dbg { __u64 src_uaddr; __u64 dst_uaddr; __u32 len; __u32 pad0; };
struct kvm_sev_attestation_report { __u8 mnonce[16]; __u64 uaddr; __u32 len; __u32 pad0; };

struct kvm_sev_send_start {
    __u32 policy;
    __u32 pad0;
    __u64 pdh_cert_uaddr;
    __u32 pdh_cert_len;
    __u32 pad1;
    __u64 plat_certs_uaddr;
    __u32 plat_certs_len;
    __u32 pad2;
    __u64 amd_certs_uaddr;
    __u32 amd_certs_len;
    __u32 pad3;
    __u64 session_uaddr;
    __u32 session_len;
    __u32 pad4;
};

struct kvm_sev_send_update_data {
    __u64 hdr_uaddr;
    __u32 hdr_len;
    __u32 pad0;
    __u64 guest_uaddr;
    __u32 guest_len;
    __u32 pad1;
    __u64 trans_uaddr;
    __u32 trans_len;
    __u32 pad2;
};

struct kvm_sev_receive_start {
    __u32 handle;
    __u32 policy;
    __u64 pdh_uaddr;
    __u32 pdh_len;
    __u32 pad0;
    __u64 session_uaddr;
    __u32 session_len;
    __u32 pad1;
};

struct kvm_sev_receive_update_data {
    __u64 hdr_uaddr;
    __u32 hdr_len;
    __u32 pad0;
    __u64 guest_uaddr;
    __u32 guest_len;
    __u32 pad1;
    __u64 trans_uaddr;
    __u32 trans_len;
    __u32 pad2;
};

struct kvm_sev_snp_launch_start { __u64 policy; __u8 gosvw[16]; __u16 flags; __u8 pad0[6]; __u64 pad1[4]; };

struct kvm_sev_snp_launch_update {
    __u64 gfn_start;
    __u64 uaddr;
    __u64 len;
    __u8 type;
    __u8 pad0;
    __u16 flags;
    __u32 pad1;
    __u64 pad2[4];
};

struct kvm_sev_snp_launch_finish {
    __u64 id_block_uaddr;
    __u64 id_auth_uaddr;
    __u8 id_block_en;
    __u8 auth_key_en;
    __u8 vcek_disabled;
    __u8 host_data[32];
    __u8 pad0[3];
    __u16 flags;
    __u64 pad1[4];
};
