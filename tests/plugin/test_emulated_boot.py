"""One suite, really in an emulated host: nested guests that die and hang there, and a crash between two tests."""

import os
from pathlib import Path

import pytest

# pytester gives its sessions another home, and the kernel is not to be built once more there.
CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")

pytestmark = [pytest.mark.slow, pytest.mark.needs("emulated_vmx")]

SUITE = """
    import pytest
    from hypothesis import given, settings
    from hypothesis import strategies as st

    def test_a_crash(nested):
        with open("/proc/sys/kernel/sysrq", "w") as file:
            file.write("1")
        nested().run(2)
        with open("/proc/sysrq-trigger", "w") as file:
            file.write("c")

    def test_a_round_trip_after_it(nested, timing, record_property):
        pair = nested("b:1x1")
        pair.run(3)
        assert len(timing("round trip", pair, batches=2, round_trips=2)) == 2
        assert pair.round_trips == 7

    def test_l2_is_shown_when_l1_is_spoiled(nested):
        pair = nested()
        pair.run(2)
        pair.vm.memory[0].write(0x20000, bytes.fromhex("0f0b"))  # L2_CODE: ud2
        pair.run(2)

    @pytest.mark.nested_vmx
    def test_a_hang_is_stopped(guest, assemble):
        guest(assemble("entry: nop\\n again: nop\\n jmp again")).run(timeout_s=1)

    @pytest.mark.nested_vmx
    def test_a_host_that_hangs_is_stopped(guest, assemble):
        # Bochs 2.7 keeps interrupts from a guest with IF = 0, also those that must make it exit.
        guest(assemble("entry: cli\\n again: nop\\n jmp again")).run(timeout_s=1)

    @given(st.lists(st.integers(0, 255), min_size=1, max_size=8))
    @settings(max_examples=5, database=None, deadline=None)
    @pytest.mark.nested_vmx
    def test_properties(numbers):
        assert bytes(numbers)[-1] == numbers[-1]

    @pytest.mark.needs("no_ept")
    def test_without_ept(nested):
        nested("e:1x1").run(2)
"""


def test_a_suite_in_an_emulated_host(pytester, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", CACHE)
    pytester.makepyfile(SUITE)
    pytester.makeini("[pytest]\naddopts = -p no:timeout -p no:hypothesispytest -p no:cacheprovider")
    result = pytester.runpytest_inprocess("--kvm-host", "vmx", "--kvm-timeout", "10")
    result.assert_outcomes(passed=3, failed=4)
    said = iter(result.stdout.lines)
    for wanted in (
        "booting vmx:skylake again, for the 6 tests that are left",
        "sysrq: Trigger a crash",
        "Kernel panic - not syncing: sysrq triggered crash",
        "_ test_l2_is_shown_when_l1_is_spoiled _",
        "UnexpectedL2Exit",
        "- KVM guest -",
        "last exit IoExit",
        "RIP is l1_vmx:ring_fail",
        "=> 0x",
        "nested state: format VMX, flags none, VMXON region at gpa 0x5000, VMCS12 at gpa 0x6000",
        "VMCS12 fields that differ from what L1 loaded:",
        "VM_EXIT_INTR_INFO                0x80000306, loaded as 0x0",  # SDM vol. 3C, table 25-18: exception 6
        "last exits to the test: doorbell READY, doorbell BEGIN, doorbell END, doorbell BEGIN, doorbell FAIL",
        "_ test_a_hang_is_stopped _",
        "gave no sign for 1 s and was stopped",
        "  RIP is inline:again",
        "_ test_a_host_that_hangs_is_stopped _",
        "silent for 10 s, stopped",
        "A guest that spins with IF = 0 keeps its emulated host from everything",
    ):
        assert any(wanted in line for line in said), wanted
