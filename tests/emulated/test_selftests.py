"""Linux' own selftests of nested virtualization pass in emulated hosts; one that takes a host down spares the others.

Which pass, and that vmx_preemption_timer_test hangs a host whose guests run with IF=0, was found with a static build of
them, run by hand.
"""

import pytest

from kvmharness.lab.kernels.selftests import build as build_selftests
from kvmharness.results.record import VariantId
from kvmharness.suites.selftests import selftests
from kvmharness.suites.test import chosen
from kvmharness.validation.campaign import Variant
from kvmharness.validation.suites import run_suites
from tests.emulated.hosts import or_skip, ready

BOTH = ("state_test", "set_sregs_test", "sync_regs_test", "smm_test")
VMX = ("vmx_close_while_nested_test", "vmx_set_nested_state_test", "vmx_dirty_log_test")
SVM = ("svm_vmcall_test", "svm_int_ctl_test")
HANGS = "vmx_preemption_timer_test"

pytestmark = pytest.mark.slow


def outcomes(host, names):
    kernel, machine = ready(host)
    with or_skip():
        tests = chosen(selftests(build_selftests(kernel.tree)), [f"x86_64/{name}" for name in names])
    variant = Variant(VariantId("stock", kernel.source), kernel.modules)
    found = run_suites(machine, [variant], [()], lambda variant: tests)
    return {test.name.removeprefix("x86_64/"): (test.outcome, test.why) for test in found.tests}


@pytest.mark.needs("emulated_vmx")
def test_under_vmx():
    found = outcomes("vmx:skylake", (*BOTH, *VMX, *SVM, HANGS))
    assert found.pop(HANGS)[0] == "hang"
    assert {name: found[name] for name in SVM} == dict.fromkeys(
        SVM, ("skip", "Requirement not met: kvm_cpu_has(X86_FEATURE_SVM)")
    )
    assert {name: found[name] for name in (*BOTH, *VMX)} == dict.fromkeys((*BOTH, *VMX), ("pass", ""))


@pytest.mark.needs("emulated_svm")
def test_under_svm():
    found = outcomes("svm:epyc", (*BOTH, *SVM))
    assert found == dict.fromkeys(found, ("pass", ""))
    assert found.keys() == {*BOTH, *SVM}
