"""Progress without a terminal: plain lines, and not too many."""

import io
import re

import pytest

from kvmharness.cli.output import NORMAL, QUIET, VERBOSE, Output


def count(output, total):
    with output.task("Running") as task:
        task.step("starting")
        for done in range(total + 1):
            task.step(f"cell {done}", done, total)


def test_first_and_last_of_many_steps_are_shown(capsys):
    count(Output(NORMAL), 100)
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line.partition("] ")[2] for line in err.splitlines()]
    assert lines == ["Running: starting", "Running: 0/100 cell 0", "Running: 100/100 cell 100"]


def test_quiet(capsys):
    output = Output(QUIET)
    count(output, 3)
    output.say("nothing")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("verbosity", "shown"), [(NORMAL, ""), (VERBOSE, "more\n")])
def test_details_are_for_verbose(verbosity, shown, capsys):
    Output(verbosity).detail("more")
    assert capsys.readouterr().err == shown


def test_results_go_to_standard_output_even_when_quiet(capsys):
    Output(QUIET).result("42")
    assert capsys.readouterr() == ("42\n", "")


def test_a_log_sees_the_first_tick_and_then_some(capsys):
    with Output(NORMAL).task("Kernel") as task:
        for count in range(500):
            task.tick(f"{count} objects")
    assert [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()] == ["Kernel: 0 objects"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_no_color_leaves_no_colour_and_no_bold(no_color, coloured, monkeypatch):
    """Where a line moves, the cursor is still told to; see no-color.org."""
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", no_color)
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("sys.stdout", terminal)
    count(Output(NORMAL), 3)
    assert "cell 3" in terminal.getvalue()
    Output().result(Output().paint("yes", "green"))
    assert bool(re.search(r"\x1b\[[\d;]*m", terminal.getvalue())) == coloured
