"""The verb litmus: what it lists, what it refuses before anything runs, and what it says of a test that fails."""

import json
import os

import pytest

from kvmharness.cli.main import main
from kvmharness.cli.options import seconds
from kvmharness.litmus.model.answers import DONE
from kvmharness.litmus.model.machine import Model


def said(capsys, *words):
    """Exit code, standard output and standard error."""
    code = main(["litmus", *words])
    return code, *capsys.readouterr()


def test_the_list_says_what_is_lost(capsys):
    code, out, _ = said(capsys, "--list", "invvpid-o*")
    assert code == 0
    assert out.startswith("invvpid-one: VPID and ASID: otherwise a hypervisor that flushes its guest by VPID would")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nonesuch",), "no litmus test is called 'nonesuch'"),
        (("--for", "60s"), "--for is about random tests"),
        (("--random", "0"), "'0' is not a number from 1"),
        (("--random", "1", "--for", "soon"), "'soon' is no length of time"),
        (
            (
                "--host",
                "vmx:486",
            ),
            "no host is called 'vmx:486'",
        ),
        (("./nonesuch.litmus",), "cannot read litmus test ./nonesuch.litmus: No such file"),
        (
            (
                "--param",
                "kvm.tdp_mmu=N",
            ),
            "host",
        ),
    ],
)
def test_what_cannot_be_run_is_refused(capsys, words, message):
    code, out, err = said(capsys, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"L1 jump", "line 1: 'L1 jump': no row does 'jump'"),
        (b"\n# nothing\n", "0 rows"),
        (b"L1 read p0\n" * 6000, "6000 rows"),
        (b"\xff\xfe", "line 1 is not text in UTF-8"),
        (b"L2 read p0", "L1 has not entered L2"),
        (bytes(1 << 21), "larger than 1 MiB, which is the limit"),
    ],
)
def test_a_file_that_is_no_test_is_refused(capsys, tmp_path, content, message):
    path = tmp_path / "a.litmus"
    path.write_bytes(content)
    code, out, err = said(capsys, str(path))
    assert (code, out) == (2, "")
    assert message in err


def test_a_fifo_is_refused_at_once(capsys, tmp_path):
    os.mkfifo(tmp_path / "a.litmus")
    code, _, err = said(capsys, str(tmp_path / "a.litmus"))
    assert code == 2
    assert "it is a pipe, not a regular file" in err


@pytest.mark.parametrize(("text", "found"), [("60s", 60), ("5", 5), ("2m", 120), ("1h", 3600)])
def test_lengths_of_time(text, found):
    assert seconds(text) == found


@pytest.mark.needs("kvm")
def test_a_file_is_run_here_and_is_in_the_record(capsys, tmp_path):
    path, record = tmp_path / "mine.litmus", tmp_path / "run.json"
    path.write_text("L1 read p0\nL1 map H0 p0 d9  # another page\nL1 invlpg p0\nL1 read p0\n")
    code, out, _ = said(capsys, str(path), "--json", str(record))
    assert code == 0
    assert out.startswith("1 passed, 0 failed, 0 skipped, under 1 setting")
    (test,) = json.loads(record.read_text())["tests"]
    assert (test["battery"], test["name"], test["outcome"]) == ("litmus", "mine", "pass")


@pytest.mark.needs("kvm")
def test_a_failure_is_shown_with_its_table(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(Model, "_map", lambda self, row: DONE)  # a model that takes no notice of it
    path = tmp_path / "mine.litmus"
    path.write_text("L1 map H0 p0 d9\nL1 invlpg p0\nL1 read p0\n")
    code, out, _ = said(capsys, str(path))
    assert code == 1
    assert out.startswith("FAIL mine: row 3, L1 read p0: d9 where the architecture allows d0\n")
    assert "  3  L1 read p0       d0        d9    <-- wrong" in out


@pytest.mark.needs("kvm")
def test_random_ones_that_fail_are_shrunk_and_kept(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Model, "_unmap", lambda self, row: DONE)
    code, _, err = said(capsys, "--random", "3")
    assert code == 1
    kept = sorted(tmp_path.glob("random-3-*.litmus"))
    assert kept
    assert all(len(path.read_text().splitlines()) <= 6 for path in kept)
    assert f"{kept[0].name}: the shortest rows that fail" in err
    assert said(capsys, f"./{kept[0].name}")[0] == 1
