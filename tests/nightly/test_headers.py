"""The ABI against the headers of a newer kernel than the one that this system was built for."""

import shutil
import subprocess
from pathlib import Path

import pytest

from kvmharness.abi.ioctls import IOCTLS
from tests.abi.header import Header
from tests.abi.headertests import HeaderTests
from tests.abi.twin import Twin

SOURCE = Path("/usr/src/linux-source-6.12.tar.xz")
PARTS = ("Makefile", "arch/x86", "scripts", "include", "tools/include", "tools/build", "Documentation/virt/kvm")
"""What ``make headers`` and the documentation's test take of it."""
UNDOCUMENTED = {
    *("KVM_CREATE_PIT", "KVM_GET_PIT", "KVM_SET_PIT", "KVM_GET_NR_MMU_PAGES", "KVM_SET_NR_MMU_PAGES"),
    *("KVM_SET_VAPIC_ADDR", "KVM_TPR_ACCESS_REPORTING"),
}
"""Ioctls that have no section in api.rst."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The kernel's source, with ``make headers`` done."""
    if not SOURCE.is_file():
        pytest.skip(f"{SOURCE} is not there: apt-get install linux-source-6.12, of bookworm-backports on Debian 12")
    folder = tmp_path_factory.mktemp("linux")
    try:
        members = [f"linux-source-6.12/{name}" for name in PARTS]
        subprocess.run(["tar", "-xf", SOURCE, "--strip-components=1", *members], cwd=folder, check=True)
        subprocess.run(["make", "-s", "headers"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def twin(tree, tmp_path_factory):
    return Twin(Header(tree / "usr/include"), tmp_path_factory.mktemp("twin"))


class TestLinux612(HeaderTests):
    """Where all of ours is known."""

    def test_it_lacks_nothing(self, twin):
        assert twin.header.version.startswith("6.12.")
        assert twin.absent == set()


def test_every_ioctl_s_section_is_in_the_documentation(tree):
    text = (tree / "Documentation/virt/kvm/api.rst").read_text()
    found = {name for name, op in IOCTLS.items() if f" {op.section}\n---" not in text}
    assert found == UNDOCUMENTED
