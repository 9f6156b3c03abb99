"""What kernels say when something is wrong: two whole logs of 6.1, and the first lines of the other kinds.

The short ones are put together as kernel/panic.c, lib/refcount.c, kernel/locking/lockdep.c, mm/kasan/report.c,
kernel/watchdog.c and lib/ubsan.c print them.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmharness.results.kernelwords import reports
from tests.folders import KERNEL_LOGS

CUT, END = "------------[ cut here ]------------", "---[ end trace 0000000000000000 ]---"


def test_an_oops_and_the_panic_that_follows():
    oops, panic = reports((KERNEL_LOGS / "oops.txt").read_text().splitlines())
    assert (oops.kind, oops.headline) == ("BUG", "BUG: kernel NULL pointer dereference, address: 0000000000000338")
    assert oops.rip == "prepare_vmcs02.constprop.0+0xc39/0x15d0 [kvm_intel]"
    assert oops.trace[:3] == (
        "nested_vmx_enter_non_root_mode+0x7e6/0x13a0 [kvm_intel]",
        "nested_vmx_run+0x11e/0x4b0 [kvm_intel]",
        "vmx_handle_exit+0x1ad/0x720 [kvm_intel]",
    )
    assert not any("ktime_get" in frame for frame in oops.trace)  # the unwinder doubts it
    assert oops.text[-1] == END
    assert (panic.kind, panic.headline) == ("panic", "Kernel panic - not syncing: Fatal exception")


def test_a_warning():
    (found,) = reports((KERNEL_LOGS / "warning.txt").read_text().splitlines())
    assert (found.kind, found.place) == ("WARNING", "arch/x86/kvm/mmu/mmu.c:5797")
    assert found.rip == "__kvm_mmu_create+0x171/0x1d0 [kvm]"
    assert found.trace[0] == "kvm_mmu_create+0x69/0xa0 [kvm]"
    assert (found.text[0], found.text[-1]) == (CUT, END)


@pytest.mark.parametrize(
    ("lines", "kind", "headline", "place"),
    [
        (
            [
                CUT,
                "refcount_t: underflow; use-after-free.",
                "WARNING: CPU: 0 PID: 9 at lib/refcount.c:28 f+0x1/0x2",
                END,
            ],
            "WARNING",
            "refcount_t: underflow; use-after-free. (WARNING: CPU: 0 PID: 9 at lib/refcount.c:28 f+0x1/0x2)",
            "lib/refcount.c:28",
        ),
        (
            [CUT, "kernel BUG at arch/x86/kvm/x86.c:123!", "invalid opcode: 0000 [#1] PREEMPT SMP", END],
            "BUG",
            "kernel BUG at arch/x86/kvm/x86.c:123!",
            "arch/x86/kvm/x86.c:123",
        ),
        (
            ["=" * 54, "WARNING: possible circular locking dependency detected", "6.1.192 #1 Not tainted"],
            "lockdep",
            "WARNING: possible circular locking dependency detected",
            "",
        ),
        (
            [
                "=" * 66,
                "BUG: KASAN: slab-out-of-bounds in f+0x1/0x2 [kvm]",
                "Write of size 8 at addr ffff888 by task x/9",
            ],
            "KASAN",
            "BUG: KASAN: slab-out-of-bounds in f+0x1/0x2 [kvm]",
            "",
        ),
        (
            ["BUG: sleeping function called from invalid context at mm/slab.h:274"],
            "BUG",
            "BUG: sleeping function called from invalid context at mm/slab.h:274",
            "mm/slab.h:274",
        ),
        (
            ["watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [python3:28]"],
            "lockup",
            "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [python3:28]",
            "",
        ),
        (
            ["UBSAN: shift-out-of-bounds in arch/x86/kvm/mmu/mmu.c:12:34"],
            "UBSAN",
            "UBSAN: shift-out-of-bounds in arch/x86/kvm/mmu/mmu.c:12:34",
            "arch/x86/kvm/mmu/mmu.c:12",
        ),
        (
            ["general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP"],
            "oops",
            "general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP",
            "",
        ),
    ],
)
@pytest.mark.parametrize("stamp", ["", "[   11.668880] ", "<4>[   11.668880][    C0] "])
def test_each_kind_is_known_with_and_without_time_stamps(lines, kind, headline, place, stamp):
    (found,) = reports([stamp + line for line in ["kvm: something before", *lines]])
    assert (found.kind, found.headline, found.place) == (kind, headline, place)


@pytest.mark.parametrize(
    ("log", "kind", "headline", "last"),
    [
        ("kasan", "KASAN", "BUG: KASAN: slab-out-of-bounds in kvm_vcpu_after_set_cpuid+0x1d2/0x6e0 [kvm]", None),
        ("lockdep", "lockdep", "WARNING: possible circular locking dependency detected", " *** DEADLOCK ***"),
        (
            "sleeping",
            "BUG",
            "BUG: sleeping function called from invalid context at arch/x86/kvm/mmu/mmu.c:3580",
            " </TASK>",
        ),
    ],
)
def test_a_report_of_the_debug_kernel_is_one_and_whole(log, kind, headline, last):
    lines = (KERNEL_LOGS / f"{log}.txt").read_text().splitlines()
    (found,) = reports(lines)
    assert (found.kind, found.headline) == (kind, headline)
    begun = next(number for number, line in enumerate(lines) if line.startswith(("BUG:", "WARNING:")))
    assert found.text == tuple(lines[begun:])
    assert last is None or found.text[-1] == last


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("[ BUG: Invalid wait context ]", "lockdep"),
        ("WARNING: python3/30 still has locks held!", "lockdep"),
        ("INFO: trying to register non-static key.", "lockdep"),
        ("BUG kmalloc-64 (Tainted: G           O      ): Right Redzone overwritten", "BUG"),
    ],
)
def test_reports_whose_first_words_differ(line, kind):
    assert [found.kind for found in reports([line])] == [kind]


def test_two_warnings_are_two_reports():
    one = [CUT, "WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2", END]
    two = [CUT, "WARNING: CPU: 0 PID: 1 at b.c:2 g+0x1/0x2", END]
    assert [found.place for found in reports([*one, "kvm: between", *two])] == ["a.c:1", "b.c:2"]


def test_ordinary_lines_are_no_reports():
    assert reports(["kvm: loading out-of-tree module taints kernel.", "SVM: kvm: Nested Paging enabled", ""]) == ()


@given(
    st.lists(st.sampled_from([CUT, END, "WARNING: CPU: 0", "Kernel panic - not syncing: x", "x", "Call Trace:", ""]))
)
def test_any_order_of_lines_is_read(lines):
    for found in reports(lines):
        assert found.kind
        assert set(found.text) <= set(lines)
