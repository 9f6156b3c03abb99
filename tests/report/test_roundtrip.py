"""A trace's lines, cut into round trips and held against each other; the lines are the kernel's own."""

import pytest

from kvmharness.report.roundtrip import Entry, concerned, difference, entries, only, round_trips, telling

# As 6.1 writes them, with and without the tracer's columns; the second one from trace_output.c's own format.
GRAPH = """\
# tracer: function_graph
#
# FUNCTION CALLS
# |   |   |   |
  vmx_handle_exit [kvm_intel]() {
    handle_vmresume [kvm_intel]() {
      /* kvm_nested_vmenter: rip: 0x00000000000100be vmcs: 0x0000000000006000 */
      kvm_mmu_new_pgd [kvm]();
    }
  }
 1)   0.221 us    |  kvm_mmu_load [kvm]();
"""
EVENTS = """\
         python3-31      [000] d..1.    12.345678: kvm_exit: vcpu 0 reason CR_ACCESS rip 0x10042
         python3-31      [000] .....    12.345680: kvm_cr: cr_write 3 = 0x102000
"""


def test_calls_have_depths_and_tracepoints_stand_among_them():
    assert entries(GRAPH.splitlines()) == [
        Entry(1, "vmx_handle_exit()"),
        Entry(2, "handle_vmresume()"),
        Entry(3, "kvm_nested_vmenter: rip: 0x00000000000100be vmcs: 0x0000000000006000"),
        Entry(3, "kvm_mmu_new_pgd()"),
        Entry(1, "kvm_mmu_load()"),
    ]


def test_tracepoints_alone_have_their_lines_without_task_and_time():
    assert [entry.text for entry in entries(EVENTS.splitlines())] == [
        "kvm_exit: vcpu 0 reason CR_ACCESS rip 0x10042",
        "kvm_cr: cr_write 3 = 0x102000",
    ]


def trip(number, *calls, enters="kvm_nested_vmrun: rip: 0"):
    return [
        Entry(1, f"kvm_exit: vcpu 0 reason VMRESUME rip {number}"),
        Entry(0, "handle_vmresume()"),
        Entry(1, enters),
        *(Entry(1, call) for call in calls),
        Entry(1, "kvm_exit: vcpu 0 reason VMCALL rip 2"),
        Entry(0, "vmx_handle_exit()"),
    ]


@pytest.mark.parametrize(
    "enters", ["kvm_nested_vmrun: rip: 0", "kvm_nested_vmenter: rip: 0", "kvm_cr: cr_write 3 = 0x1000"]
)
def test_a_round_trip_is_from_an_exit_that_enters_l2_to_the_next(enters):
    trace = [Entry(0, "kvm_vcpu_ioctl()"), *(entry for number in range(3) for entry in trip(number, enters=enters))]
    whole = round_trips(trace)
    assert [each[0].text[-1] for each in whole] == ["0", "1"]  # the third one may not be whole
    assert [len(each) for each in whole] == [5, 5]
    assert len(round_trips(trace, cut_short=True)) == 3


def test_a_trace_without_round_trips_has_none():
    assert round_trips([]) == round_trips([Entry(0, "kvm_vcpu_ioctl()")]) == []


@pytest.mark.parametrize("what", ["kvm_exit: vcpu 0 reason EXTERNAL_INTERRUPT rip 1", "kvm_sched_in()"])
def test_the_round_trip_to_look_at_differs_and_is_not_one_in_which_the_host_did_something_else(what):
    tick = Entry(0, what)
    before = [tuple(trip(number, "a()", "b()")) for number in range(4)]
    after = [before[0], (*before[1], tick), tuple(trip(2, "a()")), tuple(trip(3, "a()"))]
    assert telling(before, after) == 2
    assert telling(before, [before[0], after[1]]) == 1
    assert telling(before, before) is None


def test_addresses_of_the_kernel_and_page_frames_make_no_difference():
    one, other = (
        [(Entry(0, f"kvm_mmu_set_spte: gfn 21 spte {spte} pfn {pfn} root ffff{spte}00000000"),)]
        for spte, pfn in (("60000ab1", "4d1"), ("60000cd2", "7ff"))
    )
    assert telling(one, other) is None
    assert telling(one, [(Entry(0, one[0][0].text.replace("gfn 21", "gfn 22")),)]) == 0


def test_the_difference_shows_what_is_gone_under_the_calls_in_which_it_stood():
    far = [Entry(1, f"far{number}()") for number in range(9)]
    before = (Entry(0, "outer()"), *far, Entry(1, "inner()"), Entry(2, "kvm_mmu_load()"), Entry(3, "alloc()"), *far)
    after = (Entry(0, "outer()"), *far, Entry(1, "inner()"), *far)
    assert list(difference(before, after)) == [
        "  outer()",
        "    ... 8 alike",
        "    far8()",
        "    inner()",
        "-     kvm_mmu_load()",
        "-       alloc()",
        "    far0()",
        "    far1()",
        "    ... 7 alike",
    ]
    assert concerned(before, after) == ["inner", "kvm_mmu_load"]
    assert only(before, after) == {"kvm_mmu_load()": 1, "alloc()": 1}
    assert only(after, before) == {}


def test_what_is_new_is_marked_so():
    assert list(difference((Entry(0, "a()"),), (Entry(0, "a()"), Entry(0, "b()")))) == ["  a()", "+ b()"]
