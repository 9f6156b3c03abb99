"""The command line as a whole, mostly in a process of its own."""

import subprocess
import sys

import pytest

from kvmharness import __version__
from kvmharness.cli.main import VERBS, main, parser


def run(*arguments, **options):
    command = [sys.executable, "-m", "kvmharness", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)


def test_version():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"kvmharness {__version__}\n")


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
