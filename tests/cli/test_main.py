"""The command line as a whole, mostly in a process of its own."""

import ast
import inspect
import os
import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from kvmharness import __version__
from kvmharness.cli import main as entry
from kvmharness.cli import options as shared
from kvmharness.cli.main import VERBS, main, parser
from kvmharness.errors import UsageError


def run(*arguments, **options):
    command = [sys.executable, "-m", "kvmharness", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)


def test_version():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"kvmharness {__version__}\n")


ABSURD = ("1e999999999", "-1", "0", "nan", "9" * 5000, "\u0661", "1_0", "+5", "")
NUMBERS = (
    *(["run", "d:1", f"--{name}"] for name in ("turns", "jobs", "warmup", "round-trips", "batches")),
    *(["run", "d:1", "--batch-round-trips"], ["litmus", "--random"], ["litmus", "--random", "1", "--for"]),
    *(["validate", "fast-cr3-switch", "--turns"], ["compare", "a", "b", "--tolerance"]),
    *(["lab", "exec", "x", "--timeout"], ["bisect", "d:1", "time"]),
)


@pytest.mark.parametrize("words", NUMBERS, ids=" ".join)
def test_absurd_numbers_are_refused_at_once(words, capsys, monkeypatch):
    monkeypatch.setattr("kvmharness.validation.bisect.check", lambda *_: pytest.fail("was taken"))
    fine = {"compare": ("0", "\u0661"), "lab": ("\u0661",), "bisect": ("0",)}.get(words[0], ())
    for value in ABSURD:
        if value not in fine:
            last, option = (f"={value}", words[-1]) if words[-1].startswith("--") else ("", words[-1])
            given = [*words[:-1], option + last] if last else [*words, "--", value]
            assert main(given) == (125 if words[0] == "bisect" else 2), value[:20]
            assert len(capsys.readouterr().err) < 4000


def test_a_file_name_that_is_no_text(monkeypatch):
    """It goes into the record, which must be one that can be read."""
    seen = []
    monkeypatch.setattr("kvmharness.cli.run.read", lambda options: seen.append(options.command))
    monkeypatch.setattr("kvmharness.cli.run.act", lambda request, output: 0)
    assert main(["run", "--kernel", os.fsdecode(b"\xff")]) == 0
    assert seen == [("kvmharness", "run", "--kernel", "\\xff")]


def test_help_names_every_verb_and_the_exit_codes(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for verb in VERBS:
        assert f"\n    {verb.__name__.rpartition('.')[2]} " in shown
    assert "3 inconclusive" in shown


@pytest.mark.parametrize("arguments", [[], ["nix"], ["doctor", "--nix"], ["asm"], ["doctor", "-v", "-q"]])
def test_usage_errors(arguments, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: kvmharness")


@pytest.mark.parametrize("verb", [verb.__name__.rpartition(".")[2] for verb in VERBS])
def test_every_verb_explains_itself(verb, capsys):
    assert main([verb, "--help"]) == 0
    assert "-q, --quiet" in capsys.readouterr().out or verb == "lab"


def test_verbs_have_summaries_that_fit():
    for line in parser().format_help().splitlines():
        assert len(line) <= 120


@dataclass(frozen=True)
class Greeting:
    name: str


def read_greeting(options):
    if options.name == "nobody":
        raise UsageError("nobody cannot be greeted", "Name somebody.")
    return Greeting(options.name)


def greet(request, output):
    output.result(f"hello {request.name}")
    return 3


def add_greeting(verbs):
    shared.verb(verbs, "greet", read_greeting, greet, "say hello", examples=()).add_argument("name")


def test_a_verb_is_a_file_and_a_row(monkeypatch, capsys):
    monkeypatch.setattr(entry, "VERBS", (*VERBS, SimpleNamespace(add=add_greeting)))
    assert main(["greet", "L1"]) == 3
    assert capsys.readouterr() == ("hello L1\n", "")
    assert main(["greet", "nobody"]) == 2
    assert capsys.readouterr() == ("", "kvmharness: nobody cannot be greeted\nhint: Name somebody.\n")


@pytest.mark.parametrize(
    ("words", "cells"),
    [
        ("validate S a:1x1 --turns 3 b:1x1 --host svm d:1", ["a:1x1", "b:1x1", "d:1"]),
        ("validate --turns 3 S --host svm a:1x1", ["a:1x1"]),
        ("validate --turns 3 --host svm S", []),
        ("run a:1x1 --host svm b:1x1 --turns 3", ["a:1x1", "b:1x1"]),
        ("run --host svm --turns 3", []),
    ],
)
def test_options_and_words_stand_in_any_order(words, cells):
    options = parser().parse_args(words.split())
    assert (options.cells, options.turns) == (cells, 3)
    assert "svm" in options.host


def test_words_after_two_dashes_are_no_options():
    assert parser().parse_args(["compare", "a", "--json", "--", "--bisect"]).b == "--bisect"
    assert parser().parse_args(["lab", "exec", "program", "--host", "svm"]).host == "vmx"


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__.rpartition(".")[2])
def test_options_go_no_further_than_what_reads_them(verb):
    takers = {
        node.name
        for node in ast.walk(ast.parse(inspect.getsource(verb)))
        if isinstance(node, ast.FunctionDef) and "Namespace" in ast.unparse(node.args)
    }
    assert takers
    assert all(name == "of" or name.startswith("read") for name in takers)


def test_ctrl_c_while_the_tool_is_still_loading():
    script = """
import sys
class Impatient:
    def find_spec(self, name, path, target=None):
        if name == "kvmharness.cli.main":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Impatient())
from kvmharness.__main__ import main
sys.exit(main(["doctor"]))"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "kvmharness: interrupted\n")
