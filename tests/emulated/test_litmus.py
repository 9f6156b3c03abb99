"""Every named litmus test on an unmodified kernel, both vendors, all settings of KVM's parameters that matter."""

import pytest

from kvmharness.lab.kernels import build
from kvmharness.litmus.named.all import every
from kvmharness.litmus.named.entry import RULES
from kvmharness.litmus.reading import read_program
from kvmharness.results.record import VariantId
from kvmharness.validation.campaign import Variant
from kvmharness.validation.litmus import run_litmus
from kvmharness.validation.snapshots import emulated_host
from tests.folders import LITMUS

TDP_OFF = {"vmx": "kvm_intel.ept=0", "svm": "kvm_amd.npt=0"}


@pytest.fixture(
    params=[
        pytest.param("vmx", marks=pytest.mark.needs("emulated_vmx")),
        pytest.param("svm", marks=pytest.mark.needs("emulated_svm")),
    ]
)
def host(request):
    return request.param, request.getfixturevalue(f"litmus_{request.param}")


def test_none_fails(host):
    failed = {label: "\n".join([test.why, *test.table]) for label, test in host[1].items() if test.outcome == "fail"}
    assert failed == {}


def test_every_rule_is_tried_under_every_setting(host):
    name, results = host
    suffixes = {label.partition("/")[2] for label in results}
    assert suffixes == {"", "kvm.tdp_mmu=N", TDP_OFF[name]}
    for suffix in suffixes:
        tried = {
            test.rule for test in every() if results["/".join(filter(None, (test.name, suffix)))].outcome == "pass"
        }
        missing = set(RULES) - tried
        without = {"vmx": {4, 13}, "svm": {4, 13}}[name] if suffix == TDP_OFF[name] else set()
        assert missing <= without | ({2, 13} if name == "svm" else set()), suffix


def test_what_is_skipped_says_what_is_lacking(host):
    skipped = [test.why for test in host[1].values() if test.outcome == "skip"]
    assert skipped
    assert all(why.startswith("this host does not offer ") for why in skipped)


def test_kvm_did_something_in_every_test(host):
    counted = [test for test in host[1].values() if test.outcome == "pass" and test.counts]
    assert len(counted) > 100  # nothing is counted where a test among others makes a VM of its own
    assert all(test.counts["exits"] > 0 for test in counted)


@pytest.mark.needs("emulated_vmx")
def test_what_released_kernels_do_wrong_is_found():
    """Programs that fail on unmodified kernels; each says which function of KVM is to blame."""
    programs = [read_program(str(LITMUS / f"{name}.litmus")) for name in ("slot-over-mmio", "nx-without-nxe")]
    kernel = build.kernel()
    stock = Variant(VariantId("stock", kernel.source), kernel.modules)
    without_ept = (("kvm_intel.ept", "0"),)
    machine = emulated_host("vmx:skylake", kernel)
    # Each by itself: what KVM has shadowed for a test before it would decide.
    tested = [test for one in programs for test in run_litmus(machine, (stock,), (without_ept,), (one,)).tests]
    assert [(test.name, test.why.partition(":")[0]) for test in tested] == [
        ("slot-over-mmio", "row 7, L1 read p1"),
        ("nx-without-nxe", "row 6, L1 read p0"),
    ]
    assert {test.outcome for test in tested} == {"fail"}
