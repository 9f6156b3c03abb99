"""Options of KVM are switched as the kernel's own configuration switches them: its tools need the whole source."""

import re
import subprocess
from pathlib import Path

import pytest

from kvmharness.lab.kernels import build, checks
from kvmharness.lab.kernels.source import at

FILES = ("include/config/auto.conf", "include/generated/autoconf.h")


@pytest.mark.needs("emulated_vmx")
@pytest.mark.parametrize("version", ["6.1", "6.12"])
def test_options_are_switched_as_olddefconfig_does(version, tmp_path):
    tarball = Path(f"/usr/src/linux-source-{version}.tar.xz")
    if not tarball.exists():
        pytest.skip(f"{tarball} is not there: apt-get install linux-source-{version}")
    tree = build.kernel(at(tarball)).tree
    at(tarball).unpack(tmp_path)
    config = (tree / ".config").read_text().splitlines()
    known = checks.options(tree, ("KVM_WERROR", "KVM_SMM", "KVM_XEN", "KVM_HYPERV"))
    assert {"KVM_WERROR", "KVM_XEN"} <= set(known)
    for name, on in known.items():
        wanted = [line for line in config if not re.match(rf"(# )?CONFIG_{name}\b", line)]
        (tmp_path / ".config").write_text("\n".join([*wanted, checks.shown(name, not on), ""]))
        for target in ("olddefconfig", "syncconfig"):
            subprocess.run(["make", target], cwd=tmp_path, stdout=subprocess.DEVNULL, check=True)
        ours = checks._configured(tree, ((name, not on),))
        for path in FILES:
            assert sorted(ours[path].decode().splitlines()) == sorted((tmp_path / path).read_text().splitlines()), name
