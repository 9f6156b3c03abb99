"""The verb suite: what it refuses before anything is built, what it lists, and what it says of what came out."""

from dataclasses import replace

import pytest

from kvmharness.cli.main import main
from kvmharness.results.tests import TestResult
from kvmharness.validation.host import Emulated
from tests import builders
from tests.suites.unittests import images
from tests.suites.unittests.trees import one


def said(capsys, *words):
    """Exit code, standard output and standard error."""
    code = main(["suite", *words])
    return code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["unit-tests"], "--tree is about unit-tests, which need it"),
        (["selftests", "--tree", "."], "selftests take no --tree"),
        (["others"], "invalid choice: 'others'"),
        (["unit-tests", "--tree", "/nowhere"], "/nowhere is no folder"),
        (["unit-tests", "--tree", "."], "holds neither unittests.cfg nor a .flat file"),
        (["selftests", "--host", "vmx:486"], "no host is called 'vmx:486'"),
        (["selftests", "--host", "local"], "there is no source tree to build the selftests from"),
        (["unit-tests", "--tree", ".", "--host", "local", "--param", "kvm.tdp_mmu=N"], "--param"),
    ],
)
def test_what_cannot_be_run_is_refused(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = said(capsys, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


@pytest.fixture
def tree(tmp_path):
    """A folder with one image."""
    one(tmp_path, images.SILENT)
    return tmp_path


def test_tests_are_listed(tree, capsys):
    code, out, _ = said(capsys, "unit-tests", "--tree", str(tree), "--list", "--host", "vmx")
    assert (code, out) == (0, "some\n")
    code, _, err = said(capsys, "unit-tests", "--tree", str(tree), "nonesuch")
    assert code == 2
    assert "no test is called 'nonesuch'" in err


@pytest.mark.parametrize(("outcome", "code"), [("pass", 0), ("fail", 1), ("hang", 1), ("skip", 4)])
def test_what_came_out_is_said(outcome, code, tree, capsys, monkeypatch):
    class Bed:
        def suite(self, tests, command, on_test):
            made = TestResult("unit-tests", "some", "host", outcome=outcome, why="because", table=("line",))
            on_test(made)
            return replace(builders.record([], ("host",)), tests=(made,))

    monkeypatch.setattr(Emulated, "testbed", lambda *arguments: Bed())
    found, out, _ = said(capsys, "unit-tests", "--tree", str(tree), "--host", "vmx", "--ktap", str(tree / "ktap"))
    assert found == code
    assert ("because" in out) == (outcome != "pass")
    assert "some host" in (tree / "ktap").read_text()
