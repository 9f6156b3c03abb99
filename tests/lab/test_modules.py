"""Module order, from modules that are only their .modinfo section."""

import pytest

from kvmharness.errors import UsageError
from kvmharness.lab.module_order import depends, load_order
from kvmharness.lab.modules import module_name


def write(folder, name, *needs):
    path = folder / f"{name}.ko"
    path.parent.mkdir(parents=True, exist_ok=True)
    # modinfo(8): zero-terminated strings of the form key=value.
    path.write_bytes(b"\x7fELF....\0license=GPL\0depends=" + ",".join(needs).encode() + b"\0name=x\0")
    return path


def test_dependencies_come_first_wherever_they_lie(tmp_path):
    write(tmp_path, "kernel/arch/x86/kvm/kvm", "irqbypass")
    write(tmp_path, "kernel/arch/x86/kvm/kvm-intel", "kvm")
    write(tmp_path, "kernel/arch/x86/kvm/kvm-amd", "kvm", "ccp")
    write(tmp_path, "kernel/drivers/crypto/ccp/ccp")
    write(tmp_path, "kernel/virt/lib/irqbypass")
    write(tmp_path, "kernel/net/other")
    names = [path.name for path in load_order(tmp_path)]
    assert names == ["irqbypass.ko", "kvm.ko", "kvm-intel.ko", "ccp.ko", "kvm-amd.ko"]


def test_what_a_module_needs_is_read_from_it(tmp_path):
    assert depends(write(tmp_path, "a")) == []
    assert depends(write(tmp_path, "b", "x", "y-z")) == ["x", "y_z"]


def test_a_folder_without_kvm_is_refused(tmp_path):
    write(tmp_path, "kvm")
    with pytest.raises(UsageError, match=r"holds no uncompressed kvm\.ko with"):
        load_order(tmp_path)


def test_a_missing_dependency_is_named(tmp_path):
    write(tmp_path, "kvm", "irqbypass")
    write(tmp_path, "kvm-amd", "kvm")
    with pytest.raises(UsageError, match=r"holds no irqbypass\.ko"):
        load_order(tmp_path)


def test_a_modules_name_is_the_kernels():
    assert module_name("/job/modules/stock/kvm-intel.ko") == "kvm_intel"
