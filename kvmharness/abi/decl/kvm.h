/* What the ioctls take and give, but for the x86 state: <linux/kvm.h>. */
struct kvm_userspace_memory_region {
    __u32 slot;
    __u32 flags;
    __u64 guest_phys_addr;
    __u64 memory_size;
    __u64 userspace_addr;
};

struct kvm_userspace_memory_region2 {
    __u32 slot;
    __u32 flags;
    __u64 guest_phys_addr;
    __u64 memory_size;
    __u64 userspace_addr;
    __u64 guest_memfd_offset;
    __u32 guest_memfd;
    __u32 pad1;
    __u64 pad2[14];
};

struct kvm_create_guest_memfd { __u64 size; __u64 flags; __u64 reserved[6]; };
struct kvm_memory_attributes { __u64 address; __u64 size; __u64 attributes; __u64 flags; };
struct kvm_pre_fault_memory { __u64 gpa; __u64 size; __u64 flags; __u64 padding[5]; };
struct kvm_enc_region { __u64 addr; __u64 size; };

struct kvm_irq_level { union { __u32 irq; __s32 status; }; __u32 level; };

struct kvm_irqchip {
    __u32 chip_id;
    __u32 pad;
    union {
        char dummy[512];
        struct kvm_pic_state pic;
        struct kvm_ioapic_state ioapic;
    } chip;
};

struct kvm_pit_config { __u32 flags; __u32 pad[15]; };
struct kvm_clock_data { __u64 clock; __u32 flags; __u32 pad0; __u64 realtime; __u64 host_tsc; __u32 pad[4]; };
struct kvm_enable_cap { __u32 cap; __u32 flags; __u64 args[4]; __u8 pad[64]; };

struct kvm_dirty_log { __u32 slot; __u32 padding1; union { void *dirty_bitmap; __u64 padding2; }; };
struct kvm_clear_dirty_log {
    __u32 slot;
    __u32 num_pages;
    __u64 first_page;
    union { void *dirty_bitmap; __u64 padding2; };
};

struct kvm_irq_routing_irqchip { __u32 irqchip; __u32 pin; };
struct kvm_irq_routing_msi { __u32 address_lo; __u32 address_hi; __u32 data; union { __u32 pad; __u32 devid; }; };
struct kvm_irq_routing_hv_sint { __u32 vcpu; __u32 sint; };
struct kvm_irq_routing_s390_adapter { __u64 ind_addr, summary_addr, ind_offset; __u32 summary_offset, adapter_id; };
struct kvm_irq_routing_xen_evtchn { __u32 port, vcpu, priority; };
struct kvm_irq_routing_entry {
    __u32 gsi, type, flags, pad;
    union {
        struct kvm_irq_routing_irqchip irqchip;
        struct kvm_irq_routing_msi msi;
        struct kvm_irq_routing_s390_adapter adapter;
        struct kvm_irq_routing_hv_sint hv_sint;
        struct kvm_irq_routing_xen_evtchn xen_evtchn;
        __u32 pad[8];
    } u;
};
struct kvm_irq_routing { __u32 nr; __u32 flags; struct kvm_irq_routing_entry entries[]; };

struct kvm_msi { __u32 address_lo, address_hi, data, flags, devid; __u8 pad[12]; };
struct kvm_irqfd { __u32 fd, gsi, flags, resamplefd; __u8 pad[16]; };
struct kvm_ioeventfd { __u64 datamatch; __u64 addr; __u32 len; __s32 fd; __u32 flags; __u8 pad[36]; };
struct kvm_coalesced_mmio { __u64 phys_addr; __u32 len; union { __u32 pad; __u32 pio; }; __u8 data[8]; };
struct kvm_coalesced_mmio_ring { __u32 first, last; struct kvm_coalesced_mmio coalesced_mmio[]; };
struct kvm_create_device { __u32 type; __u32 fd; __u32 flags; };
struct kvm_device_attr { __u32 flags; __u32 group; __u64 attr; __u64 addr; };

struct kvm_translation {
    __u64 linear_address;
    __u64 physical_address;
    __u8 valid, writeable, usermode, pad[5];
};
struct kvm_interrupt { __u32 irq; };
struct kvm_signal_mask { __u32 len; __u8 sigset[]; };
struct kvm_tpr_access_ctl { __u32 enabled; __u32 flags; __u32 reserved[8]; };
struct kvm_vapic_addr { __u64 vapic_addr; };
struct kvm_mp_state { __u32 mp_state; };
struct kvm_guest_debug { __u32 control; __u32 pad; struct kvm_guest_debug_arch arch; };

struct kvm_coalesced_mmio_zone { __u64 addr; __u32 size; union { __u32 pad; __u32 pio; }; };
struct kvm_reg_list { __u64 n; __u64 reg[]; };
struct kvm_one_reg { __u64 id; __u64 addr; };
struct kvm_dirty_gfn { __u32 flags; __u32 slot; __u64 offset; };

struct kvm_stats_header { __u32 flags, name_size, num_desc, id_offset, desc_offset, data_offset; };
struct kvm_stats_desc { __u32 flags; __s16 exponent; __u16 size; __u32 offset; __u32 bucket_size; char name[]; };
