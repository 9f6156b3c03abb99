"""A source is copied, never written to, and known by what is in it."""

import subprocess

import pytest

from kvmharness.errors import UsageError
from kvmharness.lab.kernels import source

FILES = (
    "Kconfig",
    "Makefile",
    "arch/x86/kvm/x86.c",
    "arch/x86/Kconfig",
    "arch/arm/Kconfig",
    "arch/arm/crypto/Kconfig",
    "arch/xtensa/Kconfig",
    "drivers/gpu/Kconfig",
    "drivers/base/core.c",
    "drivers/acpi/acpica/acpi.h",
    "sound/Kconfig",
    "include/linux/kvm_host.h",
    "tools/arch/arm/x.h",
    "scripts/dtc/Makefile",
)
UNUSED = ("arch/arm/mm/fault.c", "arch/xtensa/kernel/head.S", "drivers/gpu/drm/drm.c", "sound/core.h")


@pytest.fixture
def tree(tmp_path):
    base = tmp_path / "linux-6.1"
    for name in (*FILES, *UNUSED):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(name)
    return base


@pytest.fixture(params=["tree", "tarball"])
def given(request, tree, tmp_path):
    if request.param == "tree":
        return source.at(tree)
    tarball = tmp_path / "linux.tar.gz"
    subprocess.run(["tar", "-czf", tarball, "-C", tmp_path, tree.name], check=True)
    return source.at(tarball)


def test_a_copy_has_all_that_a_host_is_made_of(given, tmp_path):
    target = tmp_path / "copy"
    target.mkdir()
    given.unpack(target)
    assert sorted(str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()) == sorted(FILES)


def test_what_was_built_in_a_tree_is_not_copied(tree, tmp_path):
    for name in ("vmlinux", "vmlinux.o", ".config", "arch/x86/kvm/x86.o", "arch/x86/kvm/.x86.o.cmd", "Module.symvers"):
        (tree / name).write_text("built")
    (tree / "include/generated").mkdir()
    (tree / "include/generated/autoconf.h").write_text("built")
    (tree / ".git").mkdir()
    (tree / ".git/HEAD").write_text("ref")
    target = tmp_path / "copy"
    target.mkdir()
    source.at(tree).unpack(target)
    assert sorted(str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()) == sorted(FILES)


def test_identity_follows_the_content(given, tree):
    before = given.identity()
    assert given.identity() == before
    if given.path.is_dir():
        (tree / "arch/x86/kvm/x86.c").write_text("something else")
    else:
        given.path.write_bytes(given.path.read_bytes() + b"\0")
    assert given.identity() != before


@pytest.mark.parametrize("name", ["nothing", "empty", "file.txt"])
def test_what_is_no_kernel_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(UsageError, match="neither a Linux source tree nor a tarball") as caught:
        source.at(tmp_path / name)
    assert "arch/x86/kvm" in caught.value.hint


def test_a_tarball_of_something_else_is_refused(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/readme").write_text("x")
    subprocess.run(["tar", "-cf", tmp_path / "x.tar", "-C", tmp_path, "x"], check=True)
    target = tmp_path / "copy"
    target.mkdir()
    with pytest.raises(UsageError, match="does not hold a Linux source tree"):
        source.at(tmp_path / "x.tar").unpack(target)
