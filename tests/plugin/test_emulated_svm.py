"""A suite really in an emulated SVM host: counts, a spoiled L2, a refused VMCB, and what only VMX has is skipped."""

import os
from pathlib import Path

import pytest

# pytester gives its sessions another home, and the kernel is not to be built once more there.
CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")

pytestmark = [pytest.mark.slow, pytest.mark.needs("emulated_svm")]

SUITE = """
    import pytest
    from kvmharness.guest.failures import EntryRefused, UnexpectedL2Exit

    pytestmark = pytest.mark.nested_svm

    def test_root_loads(nested, root_loads):
        pair = nested(eptps=5)
        pair.run(20)
        with root_loads() as counted:
            pair.run(10)
        assert (counted.loads, counted.switches) == (10, 20)

    def test_exits(nested, exit_counts):
        pair = nested()
        pair.run(4)
        with exit_counts("VMRUN", "VMMCALL") as counted:
            pair.run(10)
        assert (counted["VMRUN"], counted["VMMCALL"]) == (10, 10)

    def test_a_spoiled_l2(nested):
        pair = nested()
        pair.run(2)
        pair.vm.memory[0].write(0x20000, bytes.fromhex("0f0b"))  # L2_CODE: ud2
        with pytest.raises(UnexpectedL2Exit, match="exception 6"):
            pair.run(2)

    def test_a_refused_vmcb(nested):
        pair = nested()
        pair.run(2)
        pair.vm.memory[0].write(0xA058, bytes(4))  # VMCB: ASID 0
        with pytest.raises(EntryRefused, match="VMRUN refused the VMCB"):
            pair.run(2)

    @pytest.mark.needs("no_ept")
    def test_without_npt(nested):
        nested().run(2)

    @pytest.mark.nested_vmx
    def test_vmx_is_not_there(nested):
        nested().run(2)
"""


def test_a_suite_in_an_emulated_svm_host(pytester, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", CACHE)
    pytester.makepyfile(SUITE)
    pytester.makeini("[pytest]\naddopts = -p no:timeout -p no:hypothesispytest -p no:cacheprovider")
    result = pytester.runpytest_inprocess("--kvm-host", "svm", "--kvm-timeout", "10", "-rs")
    result.assert_outcomes(passed=5, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*the emulated host svm:epyc does not offer nested_vmx either*"])
