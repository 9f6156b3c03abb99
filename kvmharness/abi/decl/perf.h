/* Counters on one thread: <linux/perf_event.h>. */
#define PERF_TYPE_TRACEPOINT 2
#define PERF_FORMAT_TOTAL_TIME_ENABLED 1
#define PERF_FORMAT_TOTAL_TIME_RUNNING 2
#define PERF_FORMAT_GROUP 8
#define PERF_FLAG_FD_CLOEXEC 8
#define PERF_IOC_FLAG_GROUP 1
#define PERF_ATTR_SIZE_VER5 112
#define PERF_EVENT_IOC_ENABLE 0x2400
#define PERF_EVENT_IOC_DISABLE 0x2401
#define PERF_EVENT_IOC_RESET 0x2403
#define PERF_EVENT_IOC_SET_FILTER 0x40082406

struct perf_event_attr {
    __u32 type;
    __u32 size;
    __u64 config;
    union { __u64 sample_period; __u64 sample_freq; };
    __u64 sample_type;
    __u64 read_format;
    __u64 disabled : 1, inherit : 1, pinned : 1, exclusive : 1;
    __u64 exclude_user : 1, exclude_kernel : 1, exclude_hv : 1, exclude_idle : 1;
    __u64 mmap : 1, comm : 1, freq : 1, inherit_stat : 1, enable_on_exec : 1, task : 1, watermark : 1;
    __u64 precise_ip : 2;
    __u64 mmap_data : 1, sample_id_all : 1, exclude_host : 1, exclude_guest : 1;
    __u64 exclude_callchain_kernel : 1, exclude_callchain_user : 1;
    __u64 mmap2 : 1, comm_exec : 1, use_clockid : 1, context_switch : 1, write_backward : 1, namespaces : 1;
    __u64 ksymbol : 1, bpf_event : 1, aux_output : 1, cgroup : 1, text_poke : 1, build_id : 1;
    __u64 inherit_thread : 1, remove_on_exec : 1, sigtrap : 1;
    __u64 __reserved_1 : 26;
    union { __u32 wakeup_events; __u32 wakeup_watermark; };
    __u32 bp_type;
    union { __u64 bp_addr; __u64 kprobe_func; __u64 uprobe_path; __u64 config1; };
    union { __u64 bp_len; __u64 kprobe_addr; __u64 probe_offset; __u64 config2; };
    __u64 branch_sample_type;
    __u64 sample_regs_user;
    __u32 sample_stack_user;
    __s32 clockid;
    __u64 sample_regs_intr;
    __u32 aux_watermark;
    __u16 sample_max_stack;
    __u16 __reserved_2;
    __u32 aux_sample_size;
    __u32 __reserved_3;
    __u64 sig_data;
};
