"""The running kernel's tree: accepted when it is built and the right one, refused otherwise. The trees are made up."""

import os

import pytest

from kvmharness.errors import UsageError
from kvmharness.lab.kernels.running import running_kernel
from kvmharness.system.cache import digest

# What a built tree has, of all that a build of modules in it asks for.
BUILT = (
    "Makefile",
    ".config",
    "Module.symvers",
    "scripts/mod/modpost",
    "arch/x86/kvm/Makefile",
    "virt/kvm/kvm_main.c",
    "include/config/kernel.release",
)


@pytest.fixture
def tree(tmp_path):
    for name in BUILT:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("CONFIG_KVM=m\n" if name == ".config" else "")
    (tmp_path / "include/config/kernel.release").write_text(f"{os.uname().release}\n")
    return tmp_path


def test_the_right_tree(tree):
    kernel = running_kernel(tree)
    assert kernel.tree == tree
    assert kernel.source == f"running kernel {os.uname().release}"
    assert kernel.config_hash == digest(b"CONFIG_KVM=m\n")


@pytest.mark.parametrize("name", BUILT[:-1])
def test_what_is_missing_is_named(tree, name):
    (tree / name).unlink()
    with pytest.raises(UsageError, match=f"is not a built kernel tree: it has no {name}") as caught:
        running_kernel(tree)
    assert "the tree that the running kernel was built in" in caught.value.hint


def test_another_kernels_tree(tree):
    (tree / "include/config/kernel.release").write_text("5.4.0-other\n")
    with pytest.raises(UsageError, match=rf"is kernel 5\.4\.0-other, this machine runs {os.uname().release}"):
        running_kernel(tree)


def test_a_tree_that_does_not_say_which_kernel_it_is(tree):
    (tree / "include/config/kernel.release").unlink()
    with pytest.raises(UsageError, match="is kernel unknown"):
        running_kernel(tree)


def test_no_tree_at_all(tmp_path):
    with pytest.raises(UsageError, match="is not a built kernel tree"):
        running_kernel(tmp_path / "nix")
