"""KVM's module parameters, from sources and from modules. The names are those of Linux 6.1's own files."""

import pytest

from kvmharness.errors import UsageError
from kvmharness.lab.kernels import build, parameters
from kvmharness.lab.kernels.source import debian

SOURCES = {
    "arch/x86/kvm/mmu/mmu.c": b'module_param_cb(nx_huge_pages, &ops, &value, 0644);\n__MODULE_PARM_TYPE(x, "bool");\n',
    "arch/x86/kvm/x86.c": b"static bool __read_mostly ignore_msrs = 0;\nmodule_param(ignore_msrs, bool, S_IRUGO);\n",
    "virt/kvm/kvm_main.c": b"module_param(halt_poll_ns, uint, 0644);\n",
    "arch/x86/kvm/vmx/vmx.c": b"module_param_named(ept, enable_ept, bool, S_IRUGO);\n",
    "arch/x86/kvm/svm.c": b"\tmodule_param_named (npt, npt_enabled, bool, 0444);\n",
    "drivers/other.c": b"module_param(other, bool, 0);\n",
}
NAMES = {"kvm.nx_huge_pages", "kvm.ignore_msrs", "kvm.halt_poll_ns", "kvm_intel.ept", "kvm_amd.npt"}


def test_in_sources(tmp_path):
    assert parameters.of_files(SOURCES) == NAMES
    for path, text in SOURCES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(text)
    assert parameters.of_tree(tmp_path) == NAMES


def test_in_modules(tmp_path):
    """As their symbol table has them."""
    for name, symbols in {"kvm": b"__param_str_tdp_mmu\0__param_tdp_mmu", "kvm-intel": b"__param_str_ept"}.items():
        (tmp_path / f"{name}.ko").write_bytes(b"\x7fELF" + bytes(60) + b"\0depends=\0" + symbols + b"\0")
    assert parameters.of_modules(tmp_path) == {"kvm.tdp_mmu", "kvm_intel.ept"}


def test_one_that_there_is_not():
    parameters.check(["kvm_intel.ept"], frozenset(NAMES))
    with pytest.raises(UsageError, match=r"kvm.nosuch is no parameter of this kernel's KVM") as caught:
        parameters.check(["kvm_intel.ept", "kvm.nosuch"], frozenset(NAMES))
    assert caught.value.hint == "kvm has halt_poll_ns, ignore_msrs, nx_huge_pages."
    with pytest.raises(UsageError) as caught:
        parameters.check(["kvm_pvm.x"], frozenset(NAMES))
    assert caught.value.hint == "It has no kvm_pvm."


@pytest.mark.slow
@pytest.mark.needs("emulated_vmx")
def test_sources_tell_what_the_modules_have():
    """But for what the configuration leaves out."""
    kernel = build.kernel(debian())
    built = parameters.of_modules(kernel.modules)
    assert {"kvm.tdp_mmu", "kvm_intel.ept", "kvm_amd.npt", "kvm_intel.vmentry_l1d_flush"} <= built
    assert built <= parameters.of_tree(kernel.tree)
