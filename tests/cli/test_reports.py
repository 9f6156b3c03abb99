"""Files to write: what cannot be written is refused before anything is run, and nothing is left of the trial."""

import os
import subprocess
import sys

import pytest

from kvmharness.cli.main import main
from kvmharness.validation.host import Emulated, ThisMachine


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    for kind in (ThisMachine, Emulated):
        monkeypatch.setattr(kind, "recover", lambda host, say: pytest.fail("something was done"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("x.json")
    (tmp_path / "earlier.part").write_text("kept")
    (tmp_path / "hard").hardlink_to(tmp_path / "earlier.part")
    return tmp_path


@pytest.mark.parametrize("verb", [["run", "a:1x1", "--host", "vmx"], ["validate", "fast-cr3-switch"]])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--json", "/nowhere/x"], "--json: cannot write /nowhere/x: No such file or directory (ENOENT)"),
        (["--json", "/proc/x"], "--json: cannot write /proc/x"),
        (["--ktap", "."], "--ktap: cannot write .: Is a directory (EISDIR)"),
        (["--junit", "x" * 300], "File name too long"),
        (["--json", "x.json", "--junit", "./x.json"], "--junit ./x.json would replace what --json writes there"),
        (["--json", "link", "--commit", "x.json"], "--commit x.json would replace what --json writes there"),
        (["--commit", "-"], "--commit -: only --json is printed"),
        (["--json", "/dev/full"], "--json: cannot write /dev/full: No space left on device (ENOSPC)"),
        (["--html", ""], "--html: cannot write a file without a name"),
        (["--json", "new/"], "--json: cannot write new/: Is a directory (EISDIR)"),
        (["--json", "x.json", "--html", "x.json.part"], "--html x.json.part would replace what --json keeps there"),
        (["--resume", "earlier.part", "--json", "./earlier.part"], "would replace what this command reads"),
        (["--resume", "earlier.part", "--ktap", "hard"], "--ktap hard would replace what this command reads"),
    ],
)
def test_what_cannot_be_written(verb, options, says, folder, capsys):
    assert main([*verb, *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert "hint: " in err
    assert sorted(os.listdir(folder)) == ["earlier.part", "hard", "link"]
    assert (folder / "earlier.part").read_text() == "kept"


@pytest.mark.parametrize("name", ["jinja2", "matplotlib"])
def test_a_page_that_nothing_here_can_make(name, monkeypatch, folder, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    assert main(["validate", "fast-cr3-switch", "--html", "x.html"]) == 2
    err = capsys.readouterr().err
    assert f"--html: the HTML report needs {name}, which is not installed" in err
    assert "pip install 'kvmharness[report]'" in err


def test_a_device_takes_several(monkeypatch, capsys):
    """It is refused for another reason, which comes later."""
    assert main(["validate", "fast-cr3-switch", "--json", "/dev/null", "--ktap", "/dev/null", "--variants", "p9"]) == 2
    assert "'p9'" in capsys.readouterr().err


def test_a_device_takes_several_where_the_output_is_a_file(folder, capsys):
    command = [sys.executable, "-m", "kvmharness", "validate", "fast-cr3-switch", "--variants", "p9"]
    with (folder / "out").open("w") as out:
        reports = ["--json", "/dev/stdout", "--ktap", "/dev/stdout"]
        done = subprocess.run([*command, *reports], stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert "'p9'" in done.stderr


def test_an_exported_test_does_not_replace_the_one_that_is_read(folder, capsys):
    (folder / "x.litmus").write_text("L1 read p0\n")
    assert main(["litmus", "./x.litmus", "--host", "vmx", "--export", "selftest", "--output", "x.litmus"]) == 2
    assert "--output x.litmus would replace what this command reads" in capsys.readouterr().err
    assert (folder / "x.litmus").read_text() == "L1 read p0\n"


def test_a_report_does_not_replace_what_is_read(folder, capsys):
    (folder / "mine.mbox").write_text("From: a@b\nSubject: [PATCH] x\n\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n")
    assert main(["validate", "mine.mbox", "--json", "mine.mbox"]) == 2
    assert "--json mine.mbox would replace what this command reads" in capsys.readouterr().err
    assert (folder / "mine.mbox").read_text().startswith("From: a@b")
