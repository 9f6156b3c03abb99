"""Text of others on every way out: no control character but newline and tab, and nothing that turns the writing."""

import io
import re
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmharness.cli.main import main
from kvmharness.cli.output import Output
from kvmharness.cli.reports import _text
from kvmharness.report.text import print_run
from kvmharness.results.verdict import ClaimResult, Outcome, Verdict
from kvmharness.system.shown import all_shown, shown
from tests import builders

NASTY = "a\x1b[31mb\x07\x9bc\u202ed\u2066e\u2028f\x00\ud800g\x7f\rh"
PLAIN = r"a\x1b[31mb\x07\x9bc\u202ed\u2066e\u2028f\x00\ud800g\x7f\x0dh"


def hidden(text):
    """By Unicode's own classes, and not by the list that is tested."""
    turns = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    return [
        char
        for char in text.replace("\r\n", "\n")
        if (unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs") and char not in "\n\t")
        or unicodedata.bidirectional(char) in turns
    ]


def test_what_is_hidden_is_escaped_and_nothing_else():
    assert shown(NASTY) == PLAIN
    text = "Zoë\t\U0001f600 \u05d0\u05d1 100 %\r\n"
    assert shown(text) is text


@given(st.text(max_size=40))
def test_nothing_hidden_is_left(text):
    assert not hidden(shown(text))


def test_every_string_of_a_json_value():
    assert all_shown({NASTY: [NASTY, 1, None, {"k": NASTY}]}) == {PLAIN: [PLAIN, 1, None, {"k": PLAIN}]}


@pytest.fixture
def record():
    made = builders.record([], ("none",))
    return replace(made, dmesg=(f"BUG: {NASTY}",), partial=NASTY, command=("kvmharness", NASTY))


@pytest.fixture
def verdict():
    claims = (ClaimResult(NASTY, NASTY, Outcome.FAIL, (NASTY,)),)
    return Verdict.of(NASTY, claims, ("none",), ("kvmharness", NASTY), titles={"p1": NASTY}, untested=(NASTY,))


@pytest.mark.parametrize("kind", ["junit", "ktap", "commit", "html"])
def test_reports(record, verdict, kind):
    if kind == "html":
        pytest.importorskip("jinja2")
        pytest.importorskip("matplotlib")
    text = _text(kind, (record,), verdict)
    assert not hidden(text)
    assert r"\x1b[31mb" in text


def test_a_table_on_a_terminal_and_without_one(record):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for out in (io.StringIO(), Terminal()):
        print_run(record, out)
        said = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())  # rich's own, of a form that the record's is not
        assert not hidden(said)
        assert r"\x1b[31mb" in "".join(said.split("\n"))


def test_colours_are_ours_alone(monkeypatch, capsys):
    monkeypatch.setattr(Output, "colour", True)
    output = Output()
    output.result(f"{output.paint(NASTY, 'red')} {NASTY}")
    assert capsys.readouterr().out == f"\x1b[31m{PLAIN}\x1b[0m {PLAIN}\n"
    output.say(NASTY)
    assert capsys.readouterr().err == f"{PLAIN}\n"


def test_json_stays_as_it_is(capsys):
    Output().document('{"a": "\x7f"}')
    assert capsys.readouterr().out == '{"a": "\x7f"}\n'


@pytest.mark.parametrize("argv", [["asm", "\x1b[2Jnix"], ["\x1b[2Jnix"], ["run", "--\u202enix"]])
def test_messages(argv, capsys):
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert not hidden(err)
    assert "nix" in err


def test_the_page_runs_and_loads_nothing(record):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    head = _text("html", (record,), None).partition("</head>")[0]
    found = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', head)
    policy = dict(part.strip().split(" ", 1) for part in found[1].split(";"))
    assert policy["default-src"] == "'none'"  # and with it scripts, images, frames, connections
    assert policy["style-src"] == "'unsafe-inline'"
    assert "script-src" not in policy
    assert head.index("Content-Security-Policy") < head.index("<style>")
