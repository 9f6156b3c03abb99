"""Programs that fail, are missing or find the disk full, each told in its own way."""

import pytest

from kvmharness.errors import ExitCode
from kvmharness.system import packages
from kvmharness.system.programs import DiskFullError, MissingToolError, ToolError, find, run


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Makes a program of that name that runs a shell script."""

    def make(name, script):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    return make


def test_output_comes_back_and_input_goes_in():
    assert run(["cat"], stdin=b"\0\xffx") == b"\0\xffx"


def test_a_failed_program_is_told_with_its_status_and_last_words(tool):
    tool("lz4", "echo too much to read >&2; seq 100 >&2; echo the reason >&2; exit 3")
    with pytest.raises(ToolError, match=r"lz4 -1 ended with status 3:\n") as caught:
        run(["lz4", "-1"])
    assert str(caught.value).endswith("\nthe reason")
    assert "too much" not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        "tar: x: Cannot write: No space left on device",
        "cp: error writing: Disk quota exceeded",
        "xorriso : FAILURE : Image size 11312s exceeds free space on media 638s",
    ],
)
def test_a_program_that_finds_the_disk_full_is_a_full_disk(tool, tmp_path, words):
    tool("tar", f"echo '{words}' >&2; exit 2")
    with pytest.raises(DiskFullError, match=f"the disk that holds {tmp_path}"):
        run(["tar"], writes=tmp_path)


def test_a_missing_file_is_named_with_its_package(monkeypatch):
    monkeypatch.setitem(packages.FILES, "isolinux.bin", ("isolinux", "/no/isolinux.bin", "/none/isolinux.bin"))
    with pytest.raises(MissingToolError, match=r"isolinux\.bin is not installed") as caught:
        find("isolinux.bin")
    assert caught.value.hint == "sudo apt-get install isolinux"
    assert caught.value.exit_code == ExitCode.SKIPPED
