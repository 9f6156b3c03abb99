"""Files are written whole or not at all; what is no file is written to as it is, and waited for by nobody."""

import os
import subprocess
import sys
from textwrap import dedent

import pytest

from kvmharness.system.files import WriteError, check_writable, is_plain, write_whole

FULL = "/dev/full"


def run(script, **options):
    head = "import resource, sys\nfrom kvmharness.system.files import *\n"
    command = [sys.executable, "-c", head + dedent(script)]
    return subprocess.run(command, stderr=subprocess.PIPE, check=False, timeout=60, **options)


@pytest.mark.parametrize("name", ["", "x/", ".", "/nowhere/x", FULL, "loop", "pipe", "x" * 250])
def test_what_cannot_be_written_is_refused_and_left_alone(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    os.symlink("loop", "loop")
    before = sorted(os.listdir())
    with pytest.raises(WriteError) as caught:
        check_writable(name)
    assert str(caught.value).startswith(f"cannot write {name or 'a file without a name'}: ")
    assert caught.value.hint
    assert sorted(os.listdir()) == before


def test_a_link_stays_one(tmp_path):
    (tmp_path / "link").symlink_to("file")
    check_writable(tmp_path / "link")
    write_whole(tmp_path / "link", b"1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"1"


def test_a_pipe_without_a_reader_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WriteError, match="ENXIO"):
        write_whole(tmp_path / "pipe", b"1")


@pytest.mark.parametrize("what", [FULL, "/dev/null", "pipe"])
def test_what_is_no_file_is_not_plain(what, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert not is_plain(tmp_path / what)
    assert is_plain(tmp_path / "new")


def test_a_limit_of_sizes_leaves_what_was_there(tmp_path):
    file = tmp_path / "file"
    file.write_text("before")
    script = f"""
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            write_whole({str(file)!r}, bytes(9999))
        except WriteError as error:
            sys.exit(f"{{error}}; {{error.hint}}")
    """
    said = run(script).stderr.decode()
    assert "EFBIG" in said
    assert "ulimit -f" in said
    assert (os.listdir(tmp_path), file.read_text()) == (["file"], "before")


WRITE_TWICE = """
    print("table")
    check_writable({name!r})
    write_whole({name!r}, b"report\\n")
    print("end")
"""


@pytest.mark.parametrize("name", ["/dev/stdout", "/proc/self/fd/1", "out"])
def test_our_own_output_in_a_file_loses_nothing(name, tmp_path):
    with (tmp_path / "out").open("wb") as out:
        run(WRITE_TWICE.format(name=name), stdout=out, cwd=tmp_path)
    assert (tmp_path / "out").read_text() == "table\nreport\nend\n"
    assert os.listdir(tmp_path) == ["out"]


def test_our_own_output_in_a_pipe():
    assert run(WRITE_TWICE.format(name="/dev/stdout"), stdout=subprocess.PIPE).stdout == b"table\nreport\nend\n"


def test_a_pipe_that_the_shell_made():
    reader, writer = os.pipe()
    run(WRITE_TWICE.format(name=f"/dev/fd/{writer}"), stdout=subprocess.DEVNULL, pass_fds=[writer])
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert file.read() == b"report\n"
