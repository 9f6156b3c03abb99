/* What a vCPU and the in-kernel devices of an x86 VM consist of: <asm/kvm.h>. */
struct kvm_pic_state {
    __u8 last_irr, irr, imr, isr;
    __u8 priority_add, irq_base, read_reg_select, poll;
    __u8 special_mask, init_state, auto_eoi, rotate_on_auto_eoi;
    __u8 special_fully_nested_mode, init4, elcr, elcr_mask;
};

struct kvm_ioapic_state {
    __u64 base_address;
    __u32 ioregsel, id, irr, pad;
    union {
        __u64 bits;
        struct {
            __u8 vector;
            __u8 delivery_mode : 3, dest_mode : 1, delivery_status : 1, polarity : 1, remote_irr : 1, trig_mode : 1;
            __u8 mask : 1, reserve : 7;
            __u8 reserved[4];
            __u8 dest_id;
        } fields;
    } redirtbl[24];
};

struct kvm_pit_channel_state {
    __u32 count;
    __u16 latched_count;
    __u8 count_latched, status_latched, status, read_state, write_state, write_latch, rw_mode, mode, bcd, gate;
    __s64 count_load_time;
};

struct kvm_pit_state { struct kvm_pit_channel_state channels[3]; };
struct kvm_pit_state2 {
    struct kvm_pit_channel_state channels[3];
    __u32 flags;
    __u32 reserved[9];
};

struct kvm_reinject_control { __u8 pit_reinject; __u8 reserved[31]; };

struct kvm_regs {
    __u64 rax, rbx, rcx, rdx;
    __u64 rsi, rdi, rsp, rbp;
    __u64 r8, r9, r10, r11;
    __u64 r12, r13, r14, r15;
    __u64 rip, rflags;
};

struct kvm_segment {
    __u64 base;
    __u32 limit;
    __u16 selector;
    __u8 type;
    __u8 present, dpl, db, s, l, g, avl;
    __u8 unusable;
    __u8 padding;
};

struct kvm_dtable { __u64 base; __u16 limit; __u16 padding[3]; };

struct kvm_sregs {
    struct kvm_segment cs, ds, es, fs, gs, ss, tr, ldt;
    struct kvm_dtable gdt, idt;
    __u64 cr0, cr2, cr3, cr4, cr8;
    __u64 efer;
    __u64 apic_base;
    __u64 interrupt_bitmap[4];
};

struct kvm_sregs2 {
    struct kvm_segment cs, ds, es, fs, gs, ss, tr, ldt;
    struct kvm_dtable gdt, idt;
    __u64 cr0, cr2, cr3, cr4, cr8;
    __u64 efer;
    __u64 apic_base;
    __u64 flags;
    __u64 pdptrs[4];
};

struct kvm_fpu {
    __u8 fpr[8][16];
    __u16 fcw, fsw;
    __u8 ftwx, pad1;
    __u16 last_opcode;
    __u64 last_ip, last_dp;
    __u8 xmm[16][16];
    __u32 mxcsr, pad2;
};

struct kvm_lapic_state { char regs[0x400]; };

struct kvm_msr_entry { __u32 index; __u32 reserved; __u64 data; };
struct kvm_msrs { __u32 nmsrs; __u32 pad; struct kvm_msr_entry entries[]; };
struct kvm_msr_list { __u32 nmsrs; __u32 indices[]; };

struct kvm_msr_filter_range { __u32 flags; __u32 nmsrs; __u32 base; __u8 *bitmap; };
struct kvm_msr_filter { __u32 flags; struct kvm_msr_filter_range ranges[16]; };

struct kvm_cpuid_entry { __u32 function, eax, ebx, ecx, edx, padding; };
struct kvm_cpuid { __u32 nent; __u32 padding; struct kvm_cpuid_entry entries[]; };
struct kvm_cpuid_entry2 { __u32 function, index, flags, eax, ebx, ecx, edx, padding[3]; };
struct kvm_cpuid2 { __u32 nent; __u32 padding; struct kvm_cpuid_entry2 entries[]; };

struct kvm_debug_exit_arch { __u32 exception; __u32 pad; __u64 pc; __u64 dr6; __u64 dr7; };
struct kvm_guest_debug_arch { __u64 debugreg[8]; };

struct kvm_vcpu_events {
    struct { __u8 injected, nr, has_error_code, pending; __u32 error_code; } exception;
    struct { __u8 injected, nr, soft, shadow; } interrupt;
    struct { __u8 injected, pending, masked, pad; } nmi;
    __u32 sipi_vector;
    __u32 flags;
    struct { __u8 smm, pending, smm_inside_nmi, latched_init; } smi;
    struct { __u8 pending; } triple_fault;
    __u8 reserved[26];
    __u8 exception_has_payload;
    __u64 exception_payload;
};

struct kvm_debugregs { __u64 db[4]; __u64 dr6; __u64 dr7; __u64 flags; __u64 reserved[9]; };

/* KVM_GET_XSAVE2 and KVM_SET_XSAVE go on into `extra`, up to what KVM_CAP_XSAVE2 answers for the VM. */
struct kvm_xsave { __u32 region[1024]; __u32 extra[]; };

struct kvm_xcr { __u32 xcr; __u32 reserved; __u64 value; };
struct kvm_xcrs { __u32 nr_xcrs; __u32 flags; struct kvm_xcr xcrs[16]; __u64 padding[16]; };

struct kvm_sync_regs {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_vcpu_events events;
};

struct kvm_vmx_nested_state_data { __u8 vmcs12[0x1000]; __u8 shadow_vmcs12[0x1000]; };
struct kvm_vmx_nested_state_hdr {
    __u64 vmxon_pa;
    __u64 vmcs12_pa;
    struct { __u16 flags; } smm;
    __u16 pad;
    __u32 flags;
    __u64 preemption_timer_deadline;
};
struct kvm_svm_nested_state_data { __u8 vmcb12[0x1000]; };
struct kvm_svm_nested_state_hdr { __u64 vmcb_pa; };

/*
 * The vendor's data follow. The header's `data`, a union of zero-length arrays, is left out: it adds nothing to the
 * size, which is part of the ioctls' numbers, but cffi would give it one.
 */
struct kvm_nested_state {
    __u16 flags;
    __u16 format;
    __u32 size;
    union {
        struct kvm_vmx_nested_state_hdr vmx;
        struct kvm_svm_nested_state_hdr svm;
        __u8 pad[120];
    } hdr;
};

struct kvm_x86_mce {
    __u64 status, addr, misc, mcg_status;
    __u8 bank;
    __u8 pad1[7];
    __u64 pad2[3];
};
struct kvm_hyperv_eventfd { __u32 conn_id; __s32 fd; __u32 flags; __u32 padding[3]; };

struct kvm_pmu_event_filter {
    __u32 action, nevents, fixed_counter_bitmap, flags;
    __u32 pad[4];
    __u64 events[];
};
