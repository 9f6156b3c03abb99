"""Small images on the local /dev/kvm: the VMM, its devices, and every way in which a test ends."""

import os
import signal
import threading
import time

import pytest

from kvmharness.kvm import Cap, Kvm
from kvmharness.results.tests import FAIL, HANG, PASS, SKIP
from kvmharness.suites.unittests import execute
from kvmharness.suites.unittests.tree import read_tree
from tests.suites.unittests import images
from tests.suites.unittests.trees import one, run_here, tree

pytestmark = pytest.mark.needs("kvm")

both_loops = pytest.mark.parametrize("changes", [{}, {"serial_loop": ""}], ids=["native", "python"])


@both_loops
def test_reports_become_lines(tmp_path, changes):
    text = "PASS: one\nFAIL: two\n\tvalue 3\nSKIP: three\nSUMMARY: 3 tests, 1 unexpected failures, 1 skipped\n"
    lines, end = run_here(one(tmp_path, images.reporting(text, 1)), **changes)
    assert {name: (line.outcome, line.why) for name, line in lines.items()} == {
        "some: one": (PASS, ""),
        "some: two": (FAIL, "the test reports a failure"),
        "some: three": (SKIP, "the test itself skips it"),
        "some": (FAIL, "3 tests, 1 unexpected failures, 1 skipped"),
    }
    assert lines["some: two"].output == ("FAIL: two", "\tvalue 3")
    assert (end["ended"], end["code"], end["bytes"]) == ("exit", 1, len(text))


@pytest.mark.parametrize(
    ("code", "outcome", "why"),
    [
        (0, PASS, ""),
        (1, FAIL, "it ended with the code 1"),
        (38, SKIP, "a word"),  # 77 as QEMU's exit status: 2 * 38 + 1
        (63, FAIL, "it aborted"),
        (5, FAIL, "it ended with the code 5, which means nothing"),
        (0x1234_5678, FAIL, "it ended with the code 305419896, which means nothing"),
    ],
)
def test_exit_codes(tmp_path, code, outcome, why):
    lines, _ = run_here(one(tmp_path, images.reporting("a word\n", code)))
    assert (lines["some"].outcome, lines["some"].why) == (outcome, why)


def test_a_test_without_a_word_has_not_passed(tmp_path):
    lines, _ = run_here(one(tmp_path, images.SILENT))
    assert (lines["some"].outcome, lines["some"].why) == (FAIL, "it ended without a word")


def test_the_image_finds_what_a_multiboot_loader_leaves(tmp_path):
    """Multiboot Specification, "3.2 Machine state" and "3.3 Boot information format"; the image checks most of it."""
    test = one(tmp_path, images.BOOT_INFORMATION, "test_args = 'first second'\nsmp = 3\nqemu_params = -m 64\n")
    ((name, _),) = [each for each in run_here(test)[0].items() if ":" in each[0]]
    assert name == "some: some.flat first second"


def test_the_module_is_the_environment(tmp_path):
    data = []
    test = one(tmp_path, images.BOOT_INFORMATION, "smp = 3\nqemu_params = -m 64\n")
    execute.execute(data.append, **test.step(inside=False).args)
    text = "".join(each["output"] for each in data if "output" in each)
    assert text.splitlines() == [
        "PASS: some.flat",
        "NR_CPUS=3",
        "MEMSIZE=64",
        "MEMLIMIT=64",
        "TEST_DEVICE=1",
        "BOOTLOADER=0",
    ]


@both_loops
@pytest.mark.parametrize("smp", [2, 4])
def test_other_processors_start(tmp_path, smp, changes):
    lines, _ = run_here(one(tmp_path, images.STARTS_ANOTHER, f"smp = {smp}"), **changes)
    assert set(lines) == {"some", "some: another processor runs"}
    assert lines["some"].outcome == PASS


def test_one_that_waits_for_a_processor_that_is_not_there_is_stopped(tmp_path):
    lines, end = run_here(one(tmp_path, images.STARTS_ANOTHER, "smp = 1"), timeout_s=0.3)
    assert lines["some"].outcome == HANG
    assert [state[:22] for state in end["states"]] == ["vCPU 0 was at RIP 0x10"]


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (images.RAISES_A_LINE, "line 5 is up"),
        (images.DEVICES, "ports, window and pages"),
        (images.READS_THE_TIMER_BACK, "the timer says its mode"),
    ],
    ids=["lines", "devices", "timer"],
)
def test_devices(tmp_path, image, name):
    lines, _ = run_here(one(tmp_path, image))
    assert {name: line.outcome for name, line in lines.items()} == {f"some: {name}": PASS, "some": PASS}


def test_an_smi_comes_back(tmp_path):
    with Kvm.open() as kvm:
        if not kvm.check_extension(Cap.X86_SMM):
            pytest.skip("this host's KVM has no SMM")
    lines, _ = run_here(one(tmp_path, images.TAKES_AN_SMI), timeout_s=5)
    assert lines["some"].outcome == PASS


@both_loops
def test_a_test_that_never_ends_is_stopped(tmp_path, changes):
    began = time.monotonic()
    lines, end = run_here(one(tmp_path, images.HANGS), timeout_s=0.3, **changes)
    assert 0.3 <= time.monotonic() - began < 5
    assert lines["some: it is there"].outcome == PASS
    assert (lines["some"].outcome, lines["some"].why) == (HANG, "it did not come to its end in its time")
    assert [state[:22] for state in end["states"]] == ["vCPU 0 was at RIP 0x10"]


def test_all_processors_of_one_that_never_ends_are_stopped(tmp_path):
    lines, end = run_here(one(tmp_path, images.HANGS, "smp = 4"), timeout_s=0.3)
    assert lines["some"].outcome == HANG
    # Those that never started are where a reset leaves them.
    assert [state.partition(", RSP")[0] for state in end["states"][1:]] == [
        f"vCPU {number} was at RIP 0xfff0" for number in (1, 2, 3)
    ]


def test_a_triple_fault(tmp_path):
    lines, _ = run_here(one(tmp_path, images.TRIPLE_FAULT))
    assert lines["some: still there"].outcome == PASS
    assert (lines["some"].outcome, lines["some"].why) == (FAIL, "a triple fault")


@both_loops
def test_a_flood_is_cut(tmp_path, changes):
    lines, end = run_here(one(tmp_path, images.FLOODS), bytes_max=20_000, **changes)
    assert (lines["some"].outcome, lines["some"].why) == (FAIL, "it was stopped: it printed more than 20000 bytes")
    assert 20_000 < end["bytes"] < 21_000
    assert len(lines["some"].output) == 20


def test_one_that_takes_too_much_memory_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "_free_kb", lambda: 1 << 10)
    lines, _ = run_here(one(tmp_path, images.HANGS))
    assert (lines["some"].outcome, lines["some"].why) == (
        SKIP,
        "it was stopped: of the host's memory only 1 MB are left",
    )


def test_a_check_of_the_host_that_does_not_hold_skips(tmp_path):
    section = "check = /proc/sys/kernel/ostype=Plan9 /proc/sys/kernel/ostype=Linux"
    lines, _ = run_here(one(tmp_path, images.reporting("PASS: one\n", 0), section))
    assert (lines["some"].outcome, lines["some"].why) == (SKIP, "/proc/sys/kernel/ostype is not Plan9: it says Linux")
    assert list(lines) == ["some"]


def test_a_check_that_holds_does_not(tmp_path):
    section = "check = /proc/sys/kernel/ostype=Linux"
    assert run_here(one(tmp_path, images.reporting("PASS: one\n", 0), section))[0]["some"].outcome == PASS


def test_one_that_goes_on_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "_ALIVE_S", 0.0)
    monkeypatch.setattr(execute, "_LOOK_S", 0.05)
    data = []
    test = one(tmp_path, images.HANGS)
    execute.execute(data.append, **{**test.step(inside=False).args, "timeout_s": 0.5})
    assert len([each for each in data if "alive" in each]) >= 3


def test_ctrl_c_ends_it_and_leaves_nothing_open(tmp_path):
    test = one(tmp_path, images.HANGS, "smp = 2")
    fds, threads = os.listdir("/proc/self/fd"), os.listdir("/proc/self/task")
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run_here(test)
    timer.join()
    assert os.listdir("/proc/self/fd") == fds
    deadline = time.monotonic() + 2  # a thread's end is its last act, and not the one that it is waited for by
    while os.listdir("/proc/self/task") != threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert os.listdir("/proc/self/task") == threads


@pytest.mark.parametrize(("emulated", "line"), [(True, "vmx.flat -a -one"), (False, "vmx.flat -a")])
def test_what_is_left_out_is_skipped_by_name_and_by_the_image(tmp_path, emulated, line):
    config = "[some]\nfile = vmx.flat\ntest_args = -a\n"
    (test,) = read_tree(tree(tmp_path, {"vmx.flat": images.BOOT_INFORMATION}, config))
    lines, _ = run_here(test, emulated=emulated, left_out=[["one", "it cannot be"]])
    assert lines.pop("some").outcome == PASS
    assert lines.pop(f"some: {line}").outcome == PASS
    assert {name: found.outcome for name, found in lines.items()} == (
        {"some: one: it cannot be": SKIP} if emulated else {}
    )
