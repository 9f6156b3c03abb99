"""Module order, from modules that are only their .modinfo section."""

import gzip
import lzma

import pytest

from kvmharness.errors import UsageError
from kvmharness.lab.inside.modules import module_name
from kvmharness.lab.kernels.modulefiles import content, depends, load_order


def write(folder, name, *needs):
    path = folder / f"{name}.ko"
    path.parent.mkdir(parents=True, exist_ok=True)
    # modinfo(8): zero-terminated strings of the form key=value.
    path.write_bytes(b"\x7fELF" + bytes(60) + b"\0license=GPL\0depends=" + ",".join(needs).encode() + b"\0name=x\0")
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


@pytest.mark.parametrize(("suffix", "pack"), [(".xz", lzma.compress), (".gz", gzip.compress)])
def test_compressed_modules_are_unpacked(tmp_path, suffix, pack):
    plain = write(tmp_path, "kvm"), write(tmp_path, "kvm-intel", "kvm")
    contents = [path.read_bytes() for path in plain]
    for path in plain:
        path.with_name(path.name + suffix).write_bytes(pack(path.read_bytes()))
        path.unlink()
    order = load_order(tmp_path)
    assert [module_name(path.name) for path in order] == ["kvm", "kvm_intel"]
    assert [content(path) for path in order] == contents


def test_a_folder_without_kvm_is_refused(tmp_path):
    write(tmp_path, "kvm")
    with pytest.raises(UsageError, match=r"holds no kvm\.ko with"):
        load_order(tmp_path)


@pytest.mark.parametrize(("content", "why"), [(b"", "it is empty"), (b"\x7fELF" + bytes(9), "it is cut off")])
def test_a_part_of_a_module_is_refused(content, why, tmp_path):
    header = bytearray(64)
    header[:4], header[40:42], header[58], header[60] = b"\x7fELF", (100).to_bytes(2, "little"), 64, 2
    for file, data in (("kvm.ko", content), ("kvm-intel.ko", bytes(header) + bytes(36 + 128) + b"\0depends=kvm\0")):
        (tmp_path / file).write_bytes(data)
    with pytest.raises(UsageError, match=rf"kvm\.ko: {why}"):
        load_order(tmp_path)
    (tmp_path / "kvm.ko").write_bytes(b"\0depends=\0")
    assert len(load_order(tmp_path)) == 2
    (tmp_path / "kvm-intel.ko").write_bytes(bytes(header) + bytes(36 + 127))
    with pytest.raises(UsageError, match=r"kvm-intel\.ko: it is cut off"):
        load_order(tmp_path)


def test_a_missing_dependency_is_named(tmp_path):
    write(tmp_path, "kvm", "irqbypass")
    write(tmp_path, "kvm-amd", "kvm")
    with pytest.raises(UsageError, match=r"holds no irqbypass\.ko"):
        load_order(tmp_path)


def test_a_modules_name_is_the_kernels():
    assert module_name("/job/modules/stock/kvm-intel.ko") == "kvm_intel"
