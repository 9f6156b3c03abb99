"""report: the same words and files again, from a record, and the same exit code."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.cli.main import main, parser
from kvmharness.cli.reports import to_reproduce
from kvmharness.report.commit import commit_lines
from kvmharness.report.text import run_lines
from kvmharness.results.document import written
from kvmharness.results.journal import Journal
from kvmharness.results.store import save
from kvmharness.results.tests import TestResult
from kvmharness.results.verdict import ClaimResult, Outcome, Verdict
from tests import builders

RECORD = builders.record([Cell(Setup.NO_EPT, 1, 1), Cell(Setup.NO_EPT, 3, 3)])
CLAIMS = (ClaimResult("loads", "Loads fall.", Outcome.FAIL, ("a:3x3 p1: 2 -> 3",), ("a:3x3",), ("p1",)),)
VERDICT = Verdict.of("fast", CLAIMS, builders.VARIANTS, ("kvmharness", "validate", "fast"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(RECORD, "run.json")
    (tmp_path / "validated.json").write_text(written((RECORD,), VERDICT))
    return tmp_path


def test_a_run_is_shown_again(folder, capsys):
    assert main(["report", "run.json", "--commit", "c", "--junit", "j", "--ktap", "k"]) == 0
    assert capsys.readouterr().out.splitlines() == run_lines(RECORD)
    assert (folder / "c").read_text().splitlines() == commit_lines([RECORD])
    assert ElementTree.parse(folder / "j").getroot().tag == "testsuites"
    assert (folder / "k").read_text().startswith("KTAP version 1\n")


def test_a_verdict_is_shown_again_with_its_exit_code(folder, capsys):
    assert main(["report", "validated.json"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("fast: FAIL (fails: loads; 0 hold)\n")
    assert "a:3x3 p1: 2 -> 3" in out
    assert out.endswith("\n".join(commit_lines([RECORD], VERDICT)) + "\n")


@pytest.mark.slow
def test_the_page_too(folder, capsys):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    assert main(["report", "validated.json", "--html", "x.html"]) == 1
    assert "a:3x3 p1: 2 -&gt; 3" in (folder / "x.html").read_text()


def test_what_was_cut_short_has_not_passed(folder, capsys):
    with Journal(folder / "cut.json") as journal:
        journal.begin(replace(RECORD, results=()))
        journal.add(RECORD.results[0])
        journal.cut_short = True
    assert main(["report", "cut.json.part"]) == 3
    assert "partial: the run was cut short" in capsys.readouterr().out


def test_tests_are_shown_with_what_failed(folder, capsys):
    failed = TestResult("selftests", "smm_test", "host", outcome="fail", why="line 3", table=("seen: 4",))
    save(replace(builders.record([]), tests=(failed,)), "tests.json")
    assert main(["report", "tests.json"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "FAIL smm_test: line 3",
        "  seen: 4",
        "0 passed, 1 failed, 0 skipped",
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nix.json"], "cannot read record nix.json"),
        (["run.json", "run.json"], "two records are of hosts with the same name"),
        (["run.json", "validated.json"], "a verdict is about the records beside it only"),
        (["run.json", "--commit", "run.json"], "--commit run.json would replace what this command reads"),
        (["empty.json"], "there is none in it"),
    ],
)
def test_what_is_refused(words, says, folder, capsys):
    (folder / "empty.json").write_text(json.dumps({"verdict": None, "records": []}))
    before = (folder / "run.json").read_bytes()
    assert main(["report", *words]) == 2
    assert says in capsys.readouterr().err
    assert (folder / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("validate --json a.json --host vmx x --html=b", "validate x --host vmx"),
        ("validate --comm c x --resume d --resume=e", "validate x"),
        ("validate --claims x x --ktap f", "validate x --claims x"),
        ("run a:3x3 -v --junit j --json -", "run a:3x3 -v"),
        ("compare a b --json", "compare a b --json"),
    ],
)
def test_what_reproduces_a_run_names_no_file_of_this_machine(given, kept):
    options = parser().parse_args(given.split())
    assert to_reproduce(given.split(), options) == ("kvmharness", *kept.split())
