"""What is made of how a selftest ended: its outputs are as Linux 6.1's selftests print them."""

from pathlib import Path

import pytest

from kvmharness.lab.inside.modules import BUSYBOX
from kvmharness.lab.kernels.selftests import Selftests
from kvmharness.lab.steps import Exited
from kvmharness.suites.selftests import SelfTest, selftests
from kvmharness.suites.test import Ran

TEST = SelfTest("x86_64/debug_regs", Path("/built/debug_regs"), timeout_s=4.0)
ASSERTED = """\
Random seed: 0x6b8b4567
==== Test Assertion Failure ====
  x86_64/debug_regs.c:174: run->exit_reason == KVM_EXIT_DEBUG
  pid=83 tid=83 errno=4 - Interrupted system call
     1\t0x0000000000402b5e: main at debug_regs.c:174
     2\t0x00007f5d1cc4a1c9: ?? ??:0
  SINGLE_STEP[1]: exit 8 exception 1 rip 0x7ffe0011223344 (should be 0x401d4a) cycles 1234567
"""


def ended(status=None, signal=None, timed_out=False):
    return Exited(status, signal, timed_out)


def judged(output="", how=None, **more):
    (line,) = TEST.judged(Ran(output=output, ended=how, **more))
    return line


def test_one_that_ends_with_0_passes_and_nothing_is_kept():
    line = judged("much\n", ended(0))
    assert (line.name, line.outcome, line.why, line.output) == ("x86_64/debug_regs", "pass", "", ())


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("1..0 # SKIP - Requirement not met: kvm_cpu_has(X86_FEATURE_SVM)\n", None),
        ("a line\nok 2 # SKIP Requirement not met: kvm_cpu_has(X86_FEATURE_SVM)\nbye\n", None),
        ("KVM_CAP_XEN_HVM not available, skipping test\n", "KVM_CAP_XEN_HVM not available"),
        ("Access denied - Exiting, skipping test\n", "Access denied - Exiting"),
        ("CONFIG_IDLE_PAGE_TRACKING is not enabled\n", "CONFIG_IDLE_PAGE_TRACKING is not enabled"),
        ("", "it does not say why"),
    ],
)
def test_a_skip_has_its_own_words_for_a_reason(output, why):
    line = judged(output, ended(4))
    assert (line.outcome, line.why) == ("skip", why or "Requirement not met: kvm_cpu_has(X86_FEATURE_SVM)")


def test_a_failed_assertion_says_where_and_what_without_what_changes_from_run_to_run():
    line = judged(ASSERTED, ended(254))
    assert line.outcome == "fail"
    assert line.why == (
        "x86_64/debug_regs.c:174: run->exit_reason == KVM_EXIT_DEBUG; "
        "SINGLE_STEP[1]: exit 8 exception 1 rip N (should be 0x401d4a) cycles N"
    )
    assert line.output == tuple(ASSERTED.splitlines())
    other = ASSERTED.replace("pid=83 tid=83", "pid=91 tid=92").replace("1234567", "7654321")
    assert judged(other, ended(254)).why == line.why


@pytest.mark.parametrize(
    ("output", "how", "outcome", "why"),
    [
        ("", ended(signal="SIGSEGV"), "fail", "ended by SIGSEGV"),
        ("1..2\nok 1 a.b\nnot ok 2 a.c\n", ended(1), "fail", "not ok 2 a.c"),
        ("words\n", ended(3), "fail", "exit status 3"),
        ("x\n", ended(signal="SIGKILL", timed_out=True), "hang", "it did not end within 4 s"),
        ("==== Test Assertion Failure ====", ended(254), "fail", "exit status 254"),
    ],
)
def test_other_ends(output, how, outcome, why):
    line = judged(output, how)
    assert (line.outcome, line.why) == (outcome, why)


def test_a_host_that_is_lost_is_told_with_what_its_kernel_said():
    line = judged("begun\n", lost="panic", why="the kernel went down: Oops", table=("Oops: 0000", "RIP: bad"))
    assert (line.outcome, line.why) == ("panic", "the kernel went down: Oops")
    assert line.output == ("begun", "the kernel went down: Oops", "Oops: 0000", "RIP: bad")
    line = judged("begun\n", lost="hang", why="the host hangs")
    assert (line.outcome, line.why) == ("hang", "it did not end within 4 s")
    assert line.output == ("begun", "the host hangs")


def test_one_that_could_not_be_started_fails():
    assert judged(failed="cannot start /x: Exec format error").why == "cannot start /x: Exec format error"


def test_what_is_kept_of_a_flood_is_its_end():
    line = judged("".join(f"line {number} {'x' * 1000}\n" for number in range(5000)), ended(1))
    assert line.output[-1].startswith("line 4999 ")
    assert sum(map(len, line.output)) < 50_000


def test_an_emulated_host_has_the_file_and_elsewhere_it_is_where_it_is():
    assert TEST.files == {"selftests/x86_64/debug_regs": Path("/built/debug_regs")}
    inside = TEST.step(inside=True)
    assert (inside.argv[0], inside.argv[-1]) == (BUSYBOX, "/selftests/x86_64/debug_regs")
    assert TEST.step(inside=False).argv == ("/built/debug_regs",)
    assert inside.timeout_s == TEST.timeout_s == 4.0


def test_all_of_a_tree_by_name_with_those_that_do_not_build():
    made = selftests(Selftests({"b": Path("/b")}, {"a": "it does not build: a.c:1: error: x"}))
    assert [(test.name, test.missing, bool(test.files)) for test in made] == [
        ("a", "it does not build: a.c:1: error: x", False),
        ("b", "", True),
    ]
