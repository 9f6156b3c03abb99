"""A source is copied, never written to, and known by what is in it."""

import io
import lzma
import os
import re
import subprocess
import tarfile
from dataclasses import replace

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


def member(name, kind=tarfile.REGTYPE, content=b"x", link=""):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    made.size = len(content) if kind == tarfile.REGTYPE else 0
    return made, io.BytesIO(content)


GOOD = (member("l/Kconfig"), member("l/arch/x86/kvm/x86.c"))


def packed(*members):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for info, content in members:
            content.seek(0)
            tar.addfile(info, content)
    return made.getvalue()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is none, or an empty one"),
        (b"hello" * 999, "it is none, or an empty one"),
        (lzma.compress(packed(*GOOD))[:-60], "cannot unpack it"),
        (packed(*GOOD, member("l/../../../out")), "cannot unpack it"),
        (packed(*GOOD, member("l/h", tarfile.LNKTYPE, link="/etc/passwd")), "cannot unpack it"),
        (packed(*GOOD, member("l/s", tarfile.SYMTYPE, link="..")), "its link s leads out of it"),
        (packed(*GOOD, member("l/s", tarfile.SYMTYPE, link="/etc")), "its link s leads out of it"),
        (packed(*GOOD, member("l/s", tarfile.SYMTYPE, link="../.."), member("l/s/out")), "cannot unpack it"),
        (packed(*GOOD, member("l/p", tarfile.FIFOTYPE)), "p in it is a device or a pipe"),
        (packed(member("l/Kconfig", tarfile.DIRTYPE), GOOD[1]), "no Kconfig, or no arch/x86/kvm"),
        (packed(GOOD[0]), "no Kconfig, or no arch/x86/kvm"),
        (packed(member("--to-command=touch out/Kconfig")), "its top folder has an unusual name"),
        (packed(member("*/Kconfig")), "its top folder has an unusual name"),
        (lzma.compress(packed(*GOOD, member("l/zeros", content=bytes(65 << 20)))), "larger than 64 MiB"),
    ],
)
def test_a_bad_tarball_is_a_usage_error_and_reaches_nothing(content, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.tar.xz").write_bytes(content)
    (tmp_path / "in/copy").mkdir(parents=True)
    with pytest.raises(UsageError, match=re.escape(why)) as caught:
        source.at(tmp_path / "x.tar.xz").unpack(tmp_path / "in/copy")
    assert "x.tar.xz" in str(caught.value)
    assert caught.value.hint
    assert sorted(os.listdir(tmp_path)) == ["in", "x.tar.xz"]
    assert os.listdir(tmp_path / "in") == ["copy"]


def test_a_bomb_is_stopped_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "TARBALL", replace(source.TARBALL, most_bytes=3 << 20))
    (tmp_path / "x.tar").write_bytes(lzma.compress(packed(*GOOD, *[member("l/zeros", content=bytes(1 << 20))] * 9)))
    (tmp_path / "copy").mkdir()
    with pytest.raises(UsageError, match="more than 3 MiB, which is the limit"):
        source.at(tmp_path / "x.tar").unpack(tmp_path / "copy")


def test_a_pipe_in_a_tree_is_left_out_of_a_copy(tree, tmp_path):
    os.mkfifo(tree / "arch/x86/kvm/pipe.kvm")
    (tmp_path / "copy").mkdir()
    source.at(tree).unpack(tmp_path / "copy")
    assert not (tmp_path / "copy/arch/x86/kvm/pipe.kvm").exists()
    assert (tmp_path / "copy/arch/x86/kvm/x86.c").exists()
