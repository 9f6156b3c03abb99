"""bisect: what git is told, whatever becomes of the places to print, and what is said and kept of a measurement."""

import json
import subprocess
import sys

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.cli import bisect
from kvmharness.cli.main import main
from kvmharness.errors import GuestError
from kvmharness.validation.bisect import Answer, BisectCode
from tests import builders

CELL = Cell(Setup.NO_EPT, 3, 3)
BAD = Answer(BisectCode.BAD, "a:3x3: loads 2, above 1", builders.record((CELL,), ("none",), turns=1))

MEASURED_BAD = """
import sys
from kvmharness.cli import bisect
from kvmharness.cli.main import main
from kvmharness.validation.bisect import Answer, BisectCode
bisect.run = lambda request, output: output.say("measuring") or Answer(BisectCode.BAD, "a:3x3: loads 2, above 1")
sys.exit(main(["bisect", "a:3x3", "loads", "1"]))"""


@pytest.fixture(autouse=True)
def tree(tmp_path, monkeypatch):
    """What is asked about is the tree that one stands in."""
    (tmp_path / "linux/arch/x86/kvm").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "linux")


@pytest.mark.parametrize("place", ["/dev/full", "&-"])
@pytest.mark.parametrize(
    ("streams", "code"),
    [((2,), 1), ((1,), 125), ((1, 2), 125), ((0, 1, 2), 125)],
)
def test_a_verdict_that_cannot_be_said_is_none(streams, code, place):
    """Progress may get lost; the answer may not."""
    redirected = " ".join(f"{number}>{place}" for number in streams)
    command = ["/bin/sh", "-c", f'exec "$0" -c "$1" {redirected}', sys.executable, MEASURED_BAD]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code
    assert done.stdout == ("bad: a:3x3: loads 2, above 1\n" if code == 1 else "")


def test_a_broken_installation_is_no_bad_commit():
    script = """
import sys
sys.modules["kvmharness.cli.bisect"] = None
from kvmharness.__main__ import main
sys.exit(main(["bisect", "a:3x3", "loads", "1"]))"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 125
    assert done.stderr.startswith("kvmharness: the installation is not complete")


def test_an_error_with_the_code_of_a_failure_is_no_bad_commit(monkeypatch, capsys):
    def fail(request, output):
        raise GuestError("a guest did what it must not")

    monkeypatch.setattr(bisect, "run", fail)
    assert main(["bisect", "a:3x3", "loads", "1"]) == 125
    assert "a guest did" in capsys.readouterr().err


def test_what_was_measured_is_said_and_kept(monkeypatch, tmp_path, capsys):
    seen = []
    monkeypatch.setattr(bisect, "run", lambda request, output: seen.append(request) or BAD)
    kept = tmp_path / "record.json"
    words = ["bisect", "a:3x3", "--json", str(kept), "loads", "1"]
    assert main(words) == 1
    verdict, measured = capsys.readouterr().out.splitlines()
    assert verdict == "bad: a:3x3: loads 2, above 1"
    assert measured.startswith("measured: a:3x3: 400 round trips counted, 12 samples of 50 timed in ")
    assert "under Linux 6.1.192 on " in measured
    assert seen[0].command == ("kvmharness", "bisect", "a:3x3", "loads", "1")
    assert json.loads(kept.read_text())["results"][0]["id"] == "a:3x3"


def test_what_no_host_counts_is_refused_before_anything_is_built(monkeypatch, capsys):
    monkeypatch.setattr(bisect, "run", lambda request, output: pytest.fail("something was done"))
    assert main(["bisect", "a:3x3", "exits.VMWRTE", "0"]) == 125
    assert "exits for VMWRTE" in capsys.readouterr().err


def test_a_record_that_could_not_be_written_is_told_before_anything_is_built(monkeypatch, capsys):
    monkeypatch.setattr(bisect, "run", lambda request, output: pytest.fail("something was done"))
    assert main(["bisect", "a:3x3", "loads", "1", "--json", "/nowhere/x"]) == 125
    assert "cannot write /nowhere/x" in capsys.readouterr().err
