/* The page shared with the kernel by mmap() of a vCPU fd, the arms of other architectures included: <linux/kvm.h>. */
struct kvm_hyperv_exit {
    __u32 type;
    __u32 pad1;
    union {
        struct { __u32 msr; __u32 pad2; __u64 control, evt_page, msg_page; } synic;
        struct { __u64 input, result, params[2]; } hcall;
        struct { __u32 msr; __u32 pad2; __u64 control, status, send_page, recv_page, pending_page; } syndbg;
    } u;
};

struct kvm_xen_exit {
    __u32 type;
    union {
        struct { __u32 longmode, cpl; __u64 input, result, params[6]; } hcall;
    } u;
};

struct kvm_run {
    /* in */
    __u8 request_interrupt_window;
    __u8 immediate_exit;
    __u8 padding1[6];

    /* out */
    __u32 exit_reason;
    __u8 ready_for_interrupt_injection;
    __u8 if_flag;
    __u16 flags;

    /* in and out */
    __u64 cr8;
    __u64 apic_base;

    union {
        struct { __u64 hardware_exit_reason; } hw;
        struct { __u64 hardware_entry_failure_reason; __u32 cpu; } fail_entry;
        struct { __u32 exception, error_code; } ex;
        struct { __u8 direction, size; __u16 port; __u32 count; __u64 data_offset; } io;
        struct { struct kvm_debug_exit_arch arch; } debug;
        struct { __u64 phys_addr; __u8 data[8]; __u32 len; __u8 is_write; } mmio;
        struct { __u64 phys_addr; __u8 data[8]; __u32 len; __u8 is_write; } iocsr_io;
        struct { __u64 nr, args[6], ret; union { __u32 longmode; __u64 flags; }; } hypercall;
        struct { __u64 rip; __u32 is_write, pad; } tpr_access;
        struct { __u8 icptcode; __u16 ipa; __u32 ipb; } s390_sieic;
        __u64 s390_reset_flags;
        struct { __u64 trans_exc_code; __u32 pgm_code; } s390_ucontrol;
        struct { __u32 dcrn, data; __u8 is_write; } dcr;
        struct { __u32 suberror, ndata; __u64 data[16]; } internal;
        struct {
            __u32 suberror, ndata;
            __u64 flags;
            union { struct { __u8 insn_size; __u8 insn_bytes[15]; }; };
        } emulation_failure;
        struct { __u64 gprs[32]; } osi;
        struct { __u64 nr, ret, args[9]; } papr_hcall;
        struct { __u16 subchannel_id, subchannel_nr; __u32 io_int_parm, io_int_word, ipb; __u8 dequeued; } s390_tsch;
        struct { __u32 epr; } epr;
        struct { __u32 type, ndata; union { __u64 flags; __u64 data[16]; }; } system_event;
        struct { __u64 addr; __u8 ar, reserved, fc, sel1; __u16 sel2; } s390_stsi;
        struct { __u8 vector; } eoi;
        struct kvm_hyperv_exit hyperv;
        struct { __u64 esr_iss, fault_ipa; } arm_nisv;
        struct { __u8 error, pad[7]; __u32 reason, index; __u64 data; } msr;
        struct kvm_xen_exit xen;
        struct { unsigned long extension_id, function_id, args[6], ret[2]; } riscv_sbi;
        struct { unsigned long csr_num, new_value, write_mask, ret_value; } riscv_csr;
        struct { __u32 flags; } notify;
        struct { __u64 flags, gpa, size; } memory_fault;
        char padding[256];
    };

    __u64 kvm_valid_regs;
    __u64 kvm_dirty_regs;
    union {
        struct kvm_sync_regs regs;
        char padding[2048];
    } s;
};
