"""KVM's statistics by its source; the lines are those of Linux 6.1."""

from kvmharness.lab.kernels import statistics

GENERIC = b"""\
#define STATS_DESC_COUNTER(SCOPE, name)					       \\
#define KVM_GENERIC_VM_STATS()						       \\
	STATS_DESC_COUNTER(VM_GENERIC, remote_tlb_flush),		       \\
	STATS_DESC_TIME_NSEC(VCPU_GENERIC, halt_wait_ns),		       \\
	STATS_DESC_LOGHIST_TIME_NSEC(VCPU_GENERIC, halt_wait_hist,	       \\
"""
X86 = b"""\
	STATS_DESC_ICOUNTER(VM, pages_4k),
	STATS_DESC_PCOUNTER(VM, max_mmu_rmap_size),
	STATS_DESC_COUNTER(VCPU, pf_taken),
"""


def test_those_that_can_be_subtracted(tmp_path):
    for path, text in {"include/linux/kvm_host.h": GENERIC, "arch/x86/kvm/x86.c": X86}.items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(text)
    assert statistics.of_tree(tmp_path) == {"remote_tlb_flush", "halt_wait_ns", "pages_4k", "pf_taken"}


def test_a_kernel_that_does_not_describe_them(tmp_path):
    assert statistics.of_tree(tmp_path) == frozenset()
