import os
import socket
import stat

import pytest

from kvmharness.system import reading
from kvmharness.system.reading import Kind, ReadError, check, listed, read, read_standard_input, read_text

SMALL = Kind("note", 10, "Write a shorter one.")
ENDLESS = "/dev/zero"


def refused(path, kind=SMALL):
    with pytest.raises(ReadError) as caught:
        read_text(path, kind)
    assert caught.value.hint == "Write a shorter one."
    return str(caught.value)


def test_a_regular_file_is_read_through_links_too(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    (tmp_path / "b").symlink_to("a")
    assert read(tmp_path / "b", SMALL) == b"0123456789"
    assert read_text(str(tmp_path / "a"), SMALL) == "0123456789"


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        assert refused(tmp_path / "fifo") == f"cannot read note {tmp_path}/fifo: it is a pipe, not a regular file"
        assert "it is a socket, not" in refused(tmp_path / "socket")
        assert "it is a folder, not" in refused(tmp_path)
        assert "it is a device, not" in refused(ENDLESS)


def test_a_pipe_that_takes_the_place_of_a_file_meanwhile_does_not_block(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    regular = os.stat_result((stat.S_IFREG, *[0] * 9))
    monkeypatch.setattr(reading.os, "stat", lambda name: regular)
    assert "it is a pipe, not" in refused(tmp_path / "fifo")


def test_the_limit_stands_in_the_message(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789x")
    assert "it is larger than 10 bytes, which is the limit" in refused(tmp_path / "a")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ReadError, match="larger than 512 MiB, which is the limit"):
        check(tmp_path / "sparse", reading.RECORD)
    # What the kernel makes up while it is read has no size before.
    assert os.stat("/proc/self/maps").st_size == 0
    assert "it is larger than 10 bytes" in refused("/proc/self/maps")


def test_what_is_no_text_is_said_with_its_line(tmp_path):
    (tmp_path / "a").write_bytes(b"a\nb\nc\xff\n")
    assert "line 3 is not text in UTF-8 (byte 0xff)" in refused(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"a\nb\0\xff\n")
    assert "line 2 holds NUL" in refused(tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("none", r"No such file or directory \(ENOENT\)"),
        ("a\0b", "no file can have this name"),
        ("\ud800", "no file can have this name"),
        ("x" * 5000, r"File name too long \(ENAMETOOLONG\)"),
        ("loop", r"symbolic links \(ELOOP\)"),
    ],
)
def test_a_name_under_which_there_is_nothing(tmp_path, name, why):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ReadError, match=why):
        read(str(tmp_path / name), SMALL)


def test_memory_that_there_is_not(monkeypatch, tmp_path):
    def read_bytes(_count):
        raise MemoryError

    with pytest.raises(ReadError, match="does not fit into this machine's memory"):
        reading.limited("a", read_bytes, SMALL)


def test_a_folder_is_listed_by_name(tmp_path):
    for name in "cab":
        (tmp_path / name).touch()
    assert [path.name for path in listed(tmp_path)] == ["a", "b", "c"]
    with pytest.raises(ReadError, match="Not a directory"):
        listed(tmp_path / "a")


def test_the_standard_input_has_the_same_limits(monkeypatch, tmp_path):
    (tmp_path / "a").write_bytes(b"01234567890")
    with (tmp_path / "a").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        with pytest.raises(ReadError, match="standard input: it is larger than 10 bytes"):
            read_standard_input(SMALL)
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ReadError, match="there is no standard input"):
        read_standard_input(SMALL)
