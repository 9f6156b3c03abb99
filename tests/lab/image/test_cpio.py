"""The archive against GNU cpio, which reads it, and against one header written down byte by byte."""

import os
import shutil
import stat
import subprocess

import pytest

from kvmharness.lab.image.cpio import Archive

# Documentation/driver-api/early-userspace/buffer-format.rst, "cpio_header": inode 1, mode 100644, links 1, size 3,
# name size 2.
GOLDEN = (
    b"070701" b"00000001" b"000081a4" b"00000000" b"00000000" b"00000001" b"00000000" b"00000003"
    b"00000000" b"00000000" b"00000000" b"00000000" b"00000002" b"00000000" b"a\0" b"abc\0"
)  # fmt: skip


def sample(order=("b/file", "a")):
    archive = Archive()
    for path in order:
        archive.add_file(path, path.encode())
    archive.add_symlink("b/link", "/b/file")
    archive.add_char_device("dev/console", 5, 1)
    archive.add_folder("proc")
    archive.add_file("init", b"#!/bin/sh\n", executable=True)
    return archive


def test_header_and_data_are_as_documented():
    archive = Archive()
    archive.add_file("/a", b"abc")
    image = archive.to_bytes()
    assert image.startswith(GOLDEN)
    assert len(image) % 512 == 0
    assert b"TRAILER!!!\0" in image


def test_order_of_adding_does_not_show():
    assert sample().to_bytes() == sample(("a", "b/file")).to_bytes()


def test_folders_come_before_what_is_in_them():
    archive = Archive()
    archive.add_file("x/y/z", b"")
    image = archive.to_bytes()
    assert image.index(b"x\0") < image.index(b"x/y\0") < image.index(b"x/y/z\0")


@pytest.mark.parametrize("path", ["", "/", "../etc", "a/../b"])
def test_paths_that_leave_the_image_are_refused(path):
    with pytest.raises(ValueError, match="not a path inside an image"):
        Archive().add_file(path, b"")


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed: apt-get install cpio")
def test_gnu_cpio_unpacks_what_was_packed(tmp_path):
    (tmp_path / "archive").write_bytes(sample().to_bytes())
    with (tmp_path / "archive").open("rb") as image:
        # The device node takes root, so it is left out here.
        subprocess.run(["cpio", "-i", "-d", "--quiet", "-f", "dev/*"], stdin=image, cwd=tmp_path, check=True)
    assert (tmp_path / "b/file").read_bytes() == b"b/file"
    assert os.readlink(tmp_path / "b/link") == "/b/file"
    assert stat.S_IMODE((tmp_path / "init").stat().st_mode) == 0o755
    assert (tmp_path / "proc").is_dir()
    listing = subprocess.run(
        ["cpio", "-t", "-v", "--quiet"], input=sample().to_bytes(), stdout=subprocess.PIPE, check=True
    )
    assert any(b"5,   1" in line and line.startswith(b"crw") for line in listing.stdout.splitlines())
