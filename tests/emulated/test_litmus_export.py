"""Exported litmus tests, built in the kernel's tree: good on its modules, they say what is wrong with faulty ones."""

import re

import pytest

from kvmharness.lab.kernels import build, selftests
from kvmharness.litmus.export.selftest import selftest
from kvmharness.litmus.named.all import select
from kvmharness.results.record import VariantId
from kvmharness.suites.selftests import SelfTest
from kvmharness.validation.campaign import Variant
from kvmharness.validation.suites import run_suites
from kvmharness.vendors.vmx.vmx import VMX
from tests.emulated.hosts import or_skip, ready

NO_EPT = {"kvm_intel.ept": "0"}
# What is taken out of KVM: a root is synchronized when the guest moves to it; INVEPT; a page is protected again when
# the log has been read. Of each: file, what stands there, what is left of it.
FAULTS = (
    (
        "arch/x86/kvm/x86.c",
        "\tif (kvm_get_active_pcid(vcpu) == pcid) {\n\t\tkvm_make_request(KVM_REQ_MMU_SYNC, vcpu);\n",
        "\tif (kvm_get_active_pcid(vcpu) == pcid) {\n",
    ),
    (
        "arch/x86/kvm/vmx/nested.c",
        "\tif (roots_to_free)\n\t\tkvm_mmu_free_roots(vcpu->kvm, mmu, roots_to_free);\n",
        "",
    ),
    (
        "arch/x86/kvm/mmu/mmu.c",
        "\tif (kvm_x86_ops.cpu_dirty_log_size)\n\t\tkvm_mmu_clear_dirty_pt_masked(",
        "\tif (kvm)\n\t\treturn;\n\tif (kvm_x86_ops.cpu_dirty_log_size)\n\t\tkvm_mmu_clear_dirty_pt_masked(",
    ),
)
# Test -> module parameters, and the row that says so: allowed, seen.
TESTS = {
    "edit-l1-previous-root": (NO_EPT, r"12  L1 read p0 +d40 +d0  <-- wrong"),
    "invept-one": ({}, r" 6  L2 read p0 +d100 +d32  <-- wrong"),
    "dirty-l1": ({}, r" 8  host dirty get +at least d1 +-  <-- wrong"),
}

pytestmark = pytest.mark.needs("emulated_vmx")


def path_of(name):
    return f"x86_64/litmus_{name.replace('-', '_')}"


@pytest.fixture(scope="module")
def exported():
    """Runs the tests under modules: name -> how it ended."""
    kernel, machine = ready("vmx:skylake")
    added = {path_of(test.name): selftest(test, VMX) for test in select(tuple(TESTS))}
    with or_skip():
        binaries = selftests.build(kernel.tree, _with(kernel.tree, added)).binaries

    def under(modules):
        variant, ended = Variant(VariantId("tried", ""), modules), {}
        for params in ({}, NO_EPT):
            names = [path_of(name) for name, (its, _) in TESTS.items() if its == params]
            chosen = [SelfTest(name, binaries[name], timeout_s=60.0) for name in names]
            found = run_suites(machine, [variant], [tuple(params.items())], lambda variant, chosen=chosen: chosen)
            ended |= {each.name: each for each in found.tests}
        return {name: ended[path_of(name)] for name in TESTS}

    return kernel, under


def _with(tree, added):
    """The tree's files that change when tests are added: their sources, and the Makefile, which must name them."""
    folder = selftests.FOLDER
    makefile = (tree / folder / "Makefile").read_text()
    lines = "".join(f"TEST_GEN_PROGS_x86_64 += {name}\n" for name in added)
    listed = re.sub(r"^TEST_GEN_PROGS_x86_64 \+?= .*\n", lambda first: first[0] + lines, makefile, count=1, flags=re.M)
    sources = {f"{folder}/{name}.c": text.encode() for name, text in added.items()}
    return {f"{folder}/Makefile": listed.encode(), **sources}


def test_they_pass_on_the_tree_s_own_modules(exported):
    kernel, under = exported
    found = under(kernel.modules)
    assert {name: (each.outcome, each.table) for name, each in found.items()} == dict.fromkeys(TESTS, ("pass", ()))


def test_each_fails_on_its_fault_and_says_which_row_was_wrong(exported):
    kernel, under = exported
    overlay = {}
    for path, old, new in FAULTS:
        text = (kernel.tree / path).read_text()
        assert text.count(old) == 1, path
        overlay[path] = text.replace(old, new).encode()
    found = under(build.variant(kernel.tree, overlay, name="three faults"))
    for name, (_, row) in TESTS.items():
        assert found[name].outcome == "fail", name
        told = "\n".join(found[name].table)
        assert re.search(row, told), told
        assert "answered what the architecture does not allow" in told
