/* A VM that offers Xen's interface to its guest: <asm/kvm.h> since Linux 6.9, before that <linux/kvm.h>. */
struct kvm_xen_hvm_config {
    __u32 flags;
    __u32 msr;
    __u64 blob_addr_32;
    __u64 blob_addr_64;
    __u8 blob_size_32;
    __u8 blob_size_64;
    __u8 pad2[30];
};

struct kvm_xen_hvm_attr {
    __u16 type;
    __u16 pad[3];
    union {
        __u8 long_mode;
        __u8 vector;
        __u8 runstate_update_flag;
        union { __u64 gfn; __u64 hva; } shared_info;
        struct {
            __u32 send_port;
            __u32 type;
            __u32 flags;
            union {
                struct { __u32 port; __u32 vcpu; __u32 priority; } port;
                struct { __u32 port; __s32 fd; } eventfd;
                __u32 padding[4];
            } deliver;
        } evtchn;
        __u32 xen_version;
        __u64 pad[8];
    } u;
};

struct kvm_xen_vcpu_attr {
    __u16 type;
    __u16 pad[3];
    union {
        __u64 gpa;
        __u64 hva;
        __u64 pad[8];
        struct {
            __u64 state, state_entry_time;
            __u64 time_running, time_runnable, time_blocked, time_offline;
        } runstate;
        __u32 vcpu_id;
        struct { __u32 port; __u32 priority; __u64 expires_ns; } timer;
        __u8 vector;
    } u;
};
