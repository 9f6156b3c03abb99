"""The cache holds whole entries or none, and one process at a time makes one."""

import errno
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from textwrap import dedent

import pytest

from kvmharness.cli.main import main
from kvmharness.errors import ExitCode, UsageError
from kvmharness.system import cache, inuse
from kvmharness.system.programs import DiskFullError
from tests.leftovers import is_empty_soon


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "kvmharness"


def write(text):
    return lambda folder: (folder / "content").write_text(text)


def test_an_entry_is_made_once(folder):
    place = cache.folder_entry("things", "key", write("first"))
    assert place == folder / "things/key"
    assert cache.folder_entry("things", "key", write("second")) == place
    assert (place / "content").read_text() == "first"


def test_the_home_folder_is_the_default(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.root() == tmp_path / "home/.cache/kvmharness"


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (None, "HOME is not set"),
        ("relative", "a relative path: 'relative'"),
        ("file", "File exists (EEXIST)"),
        ("/proc/self", "cannot make the cache folder /proc/self/kvmharness"),
    ],
)
def test_no_place_for_it_is_said_by_who_needs_one(place, why, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / place) if place == "file" else place or "")
    if place is None:
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a user of whom nobody knows a name
    assert main(["cache"]) == ExitCode.USAGE
    first, hint = capsys.readouterr().err.splitlines()
    assert why in first
    assert hint == "hint: set XDG_CACHE_HOME to a folder of your own"
    assert main(["run", "--list"]) == 0  # which needs none


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), ValueError("cut off"), UsageError("no kernel")])
def test_a_damaged_entry_is_said_with_what_removes_it(folder, error):
    place = cache.folder_entry("kernels", "key", write("x"))
    with pytest.raises(UsageError, match=f"cache entry kernels/key is damaged: {error}") as caught, cache.intact(place):
        raise error
    assert caught.value.hint == "kvmharness cache --prune kernels"


def test_one_that_cannot_be_written_to_is_no_place_to_make_things(folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != folder / "things")
    with pytest.raises(UsageError, match=r"things cannot be written to"):
        cache.folder_entry("things", "key", write("x"))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("broken")])
def test_an_interrupted_entry_leaves_nothing(folder, error):
    def make(place):
        write("half")(place)
        raise error

    with pytest.raises(type(error)):
        cache.folder_entry("things", "key", make)
    assert is_empty_soon(folder / "things")
    assert (cache.folder_entry("things", "key", write("whole")) / "content").read_text() == "whole"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_as_such(folder, number):
    from kvmharness.system.programs import disk_errors

    def make(place):
        with disk_errors(place):
            raise OSError(number, os.strerror(number))

    with pytest.raises(DiskFullError, match="no space left on the disk that holds") as caught:
        cache.file_entry("things", "key", make)
    assert "XDG_CACHE_HOME" in caught.value.hint
    assert caught.value.exit_code == ExitCode.LOST
    assert is_empty_soon(folder / "things")


def test_a_full_disk_is_recognized_on_a_real_full_device():
    from kvmharness.system.programs import disk_errors

    with pytest.raises(DiskFullError), disk_errors("/dev/full"), open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")


@contextmanager
def another_process(code):
    """Runs *code* beside this process, once it has printed a line; ends it by SIGKILL."""
    prelude = "import os, sys, time\nfrom pathlib import Path\nfrom kvmharness.system import cache\n"
    with subprocess.Popen([sys.executable, "-c", prelude + dedent(code)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


MAKING = """
    def make(place):
        (place / "content").write_text("theirs")
        print("making", flush=True)
        time.sleep({seconds})
    cache.folder_entry("things", "key", make)
    print("made", flush=True)
"""


@pytest.mark.parametrize("content", ["", "1", str(os.getpid())])
def test_a_lock_file_that_nobody_holds_keeps_nobody_out(folder, content):
    (folder / "things").mkdir(parents=True)
    (folder / "things/.lock-key").write_text(content)
    assert cache.folder_entry("things", "key", write("x")).is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("entry", [cache.folder_entry, cache.file_entry])
def test_a_second_process_waits_for_the_first(folder, entry):
    said = []
    with another_process(MAKING.format(seconds=0.7)):
        place = entry("things", "key", lambda place: pytest.fail("made twice"), said.append)
    assert (place / "content").read_text() == "theirs"
    assert said == ["waiting for another process that makes the same (things/key), 0 s"]


@pytest.mark.slow
def test_threads_of_one_process_wait_for_each_other(folder):
    made = []

    def make(place):
        made.append(place)
        time.sleep(0.3)

    threads = [threading.Thread(target=cache.folder_entry, args=("things", "key", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


@pytest.mark.slow
def test_the_wait_can_be_interrupted(folder):
    def interrupt(message):
        raise KeyboardInterrupt

    with another_process(MAKING.format(seconds=60)) as process:
        with pytest.raises(KeyboardInterrupt):
            cache.folder_entry("things", "key", write("x"), interrupt)
        assert process.poll() is None
        assert not (folder / "things/key").exists()


@pytest.mark.slow
def test_of_many_that_see_a_maker_die_one_makes_it(folder, tmp_path):
    one = f"""
        def make(place):
            with open("{tmp_path}/made", "a") as file:
                file.write("made\\n")
            (place / "content").write_text("whole")
            time.sleep(0.2)
        print("ready", flush=True)
        cache.folder_entry("things", "key", make)
        print("done", flush=True)
    """
    with another_process(MAKING.format(seconds=60)) as maker, ExitStack() as stack:
        waiters = [stack.enter_context(another_process(one)) for _ in range(4)]
        maker.kill()
        assert [waiter.stdout.readline() for waiter in waiters] == ["done\n"] * 4
    assert (tmp_path / "made").read_text() == "made\n"
    assert [path.name for path in (folder / "things").iterdir()] == ["key"]
    assert (folder / "things/key/content").read_text() == "whole"


@pytest.mark.slow
def test_what_a_dead_process_left_half_made_goes_and_what_a_living_one_makes_stays(folder):
    with another_process(MAKING.format(seconds=60)) as maker:
        cache.folder_entry("things", "other", write("x"))
        assert len(list((folder / "things").glob(".making-key.*"))) == 1
        maker.kill()
        maker.wait()
        cache.folder_entry("things", "other", write("x"))
    assert [path.name for path in (folder / "things").iterdir()] == ["other"]


def test_digests_tell_contents_apart():
    assert cache.digest("a", "b") != cache.digest("ab")
    assert cache.digest(b"a") != cache.digest("a")
    assert cache.digest({"x": 1, "y": 2}) == cache.digest({"y": 2, "x": 1})


@pytest.fixture
def elsewhere(monkeypatch):
    """As if other processes, by now dead, had used what this one uses."""
    monkeypatch.setattr(inuse, "by_us", lambda cache: frozenset())


def test_the_newest_entries_are_kept(folder, elsewhere):
    for number in range(4):
        place = cache.folder_entry("things", str(number), write("x"))
        os.utime(place, (number, number))
    cache.folder_entry("things", "0", write("x"))  # used again, so the newest
    cache.keep_newest("things", 2)
    assert sorted(path.name for path in (folder / "things").iterdir()) == ["0", "3"]


def test_the_newest_files_are_kept(folder, elsewhere):
    for number in range(3):
        os.utime(cache.file_entry("things", str(number), lambda place: place.write_text("x")), (number, number))
    cache.keep_newest("things", 1)
    assert [path.name for path in (folder / "things").iterdir()] == ["2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "start",
    [cache.remove_leftovers, lambda: main(["asm", "/nowhere"]), lambda: cache.folder_entry("new", "key", write("x"))],
    ids=["call", "command", "entry"],
)
def test_what_a_killed_maker_left_is_gone_after_the_next_start_of_anything(folder, start):
    with (
        another_process(MAKING.format(seconds=60)),
        another_process(MAKING.format(seconds=60).replace("things", "others")),
    ):
        pass
    assert len(list(folder.glob("*/.making-*"))) == 2
    with another_process(MAKING.format(seconds=60).replace('"key"', '"living"')):
        start()
        names = {path.name.partition(".")[2].partition(".")[0] for path in folder.glob("*/.*")}
        assert names == {"lock-living", "making-living"}
    cache.remove_leftovers()
    assert not list(folder.glob("*/.*"))


def test_where_there_is_no_cache_none_is_made_to_look_for_leftovers(folder):
    cache.remove_leftovers()
    assert not folder.exists()


def test_a_new_cache_is_this_users_alone(folder):
    previous = os.umask(0o002)
    try:
        cache.folder_entry("things", "key", write("x"))
    finally:
        os.umask(previous)
    assert {oct(path.stat().st_mode & 0o777) for path in (folder, folder / "things")} == {"0o700"}


@pytest.mark.parametrize("which", [".", "things"])
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_cache_that_others_may_write_to_is_refused_with_the_way_out(folder, which, mode):
    cache.folder_entry("things", "key", write("x"))
    (folder / which).chmod(mode)
    with pytest.raises(UsageError, match=f"may be written to by others: its mode is {mode:04o}") as caught:
        cache.folder_entry("things", "key", write("y"))
    assert "chmod -R go-w" in caught.value.hint
    (folder / which).chmod(0o755)
    assert cache.folder_entry("things", "key", write("y")).is_dir()


def test_another_users_cache_is_refused_and_nothing_in_it_is_removed(folder, monkeypatch):
    cache.folder_entry("things", "key", write("x"))
    (folder / "things/.making-other.abc").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(UsageError, match=f"belongs to user {os.getuid()}, and this is run by user {os.getuid() + 1}"):
        cache.root()
    cache.remove_leftovers()
    assert (folder / "things/.making-other.abc").exists()


def test_what_this_process_uses_itself_is_not_removed_for_being_old(folder):
    for number in range(3):
        cache.folder_entry("things", str(number), write("x"))
    cache.keep_newest("things", 1)
    assert [entry.key for entry in cache.entries("things")] == ["2", "1", "0"]


USING = """
    cache.folder_entry("things", "key", lambda place: None)
    print("made", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_what_a_living_process_uses_is_not_removed(folder):
    with another_process(USING):
        assert not cache.remove("things", "key")
        cache.keep_newest("things", 0)
        assert (folder / "things/key").is_dir()
    assert list(folder.glob(".used-*"))
    assert cache.remove("things", "key")
    assert not list(folder.glob(".used-*"))
    assert not (folder / "things/key").exists()
    assert cache.remove("things", "key")


def test_an_entry_that_is_there_can_be_found(folder):
    assert cache.found("things", "key") is None
    assert cache.folder_entry("things", "key", write("x")) == cache.found("things", "key")


def test_what_vanishes_under_the_eyes_is_no_error(folder, monkeypatch):
    """Another process prunes between the listing and the look."""
    for name in "ab":
        cache.folder_entry("things", name, write("x"))
    paths = [folder / "things/a", folder / "things/b", folder / "things/gone"]
    monkeypatch.setattr(cache, "_entries", lambda kind: paths)
    assert {entry.key for entry in cache.entries("things") if entry.size_bytes} == {"a", "b"}
    cache.keep_newest("things", 0)
