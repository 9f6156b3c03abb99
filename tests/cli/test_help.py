"""help: topics that say what the code does, examples that the parser takes, a page for roff, scripts for shells."""

import re
import shlex
import shutil
import subprocess
import sys

import pytest

from kvmharness.claims.metrics import COUNTERS, STATISTICS, metric_names
from kvmharness.claims.vocabulary import Check, parse_claims
from kvmharness.cli.commands import SHELLS, commands
from kvmharness.cli.main import main, parser
from kvmharness.cli.topics import EXIT_CODES, TOPICS
from kvmharness.errors import ExitCode
from kvmharness.hosts import catalogue
from kvmharness.litmus.program import VERBS, WORDS, Row, forms

COMMANDS = dict(commands(parser()))


def shown(capsys, *words):
    assert main(["help", *words]) == 0
    out, err = capsys.readouterr()
    assert not err
    return out


def test_help_lists_every_topic(capsys):
    listed = re.findall(r"^  (\S+)  ", shown(capsys), re.M)
    assert listed == [*TOPICS, "completion", "man"]


@pytest.mark.parametrize("topic", [*TOPICS, "completion"])
def test_a_topic_fits_a_terminal(topic, capsys):
    lines = shown(capsys, topic).splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("words", [("nix",), ("claims", "nix"), ("completion", "fish"), ("lab", "nix")])
def test_what_there_is_no_help_about(words, capsys):
    assert main(["help", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"there is no help about '{' '.join(words)}'" in err
    assert "claims" in err


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] not in TOPICS], ids=" ".join)
def test_a_command_is_explained_as_by_itself(words, capsys):
    mine = shown(capsys, *words)
    assert main([*words, "--help"]) == 0
    assert capsys.readouterr().out == mine


EXAMPLES = [
    (words, line.strip())
    for words, command in COMMANDS.items()
    for line in (command.epilog or "").splitlines()
    if line.startswith("  ")
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_examples_and_they_are_of_it(words, capsys):
    mine = [line for own, line in EXAMPLES if own == words]
    assert 2 <= len(mine) <= 3
    assert main([*words, "--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {line}\n" in out for line in mine), "as it is written, on a line of its own"


@pytest.mark.parametrize("example", [line for _, line in EXAMPLES])
def test_the_parser_takes_every_example(example):
    (command,) = [part for part in re.split(r" \| |(?<=run) (?=kvmharness)", example) if part.startswith("kvmharness")]
    words = shlex.split(re.sub(r" [<>]\S+", "", command))
    assert parser().parse_args(words[1:]).handler


def test_exit_codes(capsys):
    assert list(EXIT_CODES) == list(ExitCode)
    out = shown(capsys, "exit-codes")
    assert all(f"\n  {code.value} " in out for code in ExitCode)


def test_claims(capsys):
    """The example of the topic is read by what reads a series, and every word that may stand in one is explained."""
    import tomllib

    out = shown(capsys, "claims")
    example = "\n".join(line[2:] for line in out.splitlines() if re.match(r"  (\[\[|\S+ = )", line))
    document = tomllib.loads(example)
    (claim,) = parse_claims(document["claim"])
    assert claim.check is Check.EXACTLY
    explained = re.findall(r"^  (\S+)  +\S", out, re.M)
    assert not {*metric_names(), *map(str, Check), document["waive"][0]["row"], *document["claim"][0]} - {*explained}
    assert {*COUNTERS, *STATISTICS} <= {*metric_names()}


def test_hosts(capsys):
    out = shown(capsys, "hosts")
    assert all(f"\n  {host.name}" in out for host in catalogue.HOSTS)
    assert re.search(r"vmx:penryn .* no_ept$", out, re.M)


def test_variants(capsys):
    out = shown(capsys, "variants")
    assert re.search(r"^  p1-3 +patch 1, patch 2, patch 3: a prefix$", out, re.M)
    assert re.search(r"^  p2 +patch 2: alone$", out, re.M)
    assert re.search(r"^  both +patch 1, patch 2: the whole series$", out, re.M)


FILLED = {
    "TABLE": "H1",
    "NESTED": "E2",
    "PROBE": "q0",
    "GFRAME": "d63",
    "FRAME": "d7",
    "PCID": "7",
    "TAG": "15",
    "HOST": "H3",
}


@pytest.mark.parametrize("verb", VERBS)
def test_rows_of_litmus_tests_are_as_their_forms_say(verb):
    who, form = forms()[verb]
    for name, value in FILLED.items():
        form = re.sub(rf"\b{name}\b", value, form)
    assert not re.search(r"[A-Z]{2}|[()?*\\]", form), "words that nothing explains, or a regular expression"
    least = form
    while "[" in least:
        least = re.sub(r" ?\[[^][]*\](\.\.\.)?", "", least)
    most = re.sub(r"\[(\w[^][]*\|[^][]*)\]", r"{\1}", form.replace("...", ""))
    most = re.sub(r"[][]", "", most)
    for text in (least, most):
        while "{" in text:
            text = re.sub(r"\{([^{}|]*)[^{}]*\}", r"\1", text)  # the first of each choice
        for doer in who.split("|"):
            assert str(Row.parse(f"{doer} {verb} {text}".rstrip())) == f"{doer} {verb} {text}".rstrip()


def test_every_operand_of_litmus_rows_is_explained():
    assert {*", ".join(WORDS).split(", ")} == {*FILLED}


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed: apt-get install groff")
def test_the_manual_page(capsys):
    page = shown(capsys, "man")
    command = ["groff", "-man", "-ww", "-Tascii", "-P-cbou", "-rLL=100n"]
    done = subprocess.run(command, input=page, capture_output=True, text=True, check=True)
    assert done.stderr == "", "roff warns of nothing"
    for words, command in COMMANDS.items():
        assert f"\n   {' '.join(words)}\n" in done.stdout
        options = {option for option in command._option_string_actions if option.startswith("--")}
        assert options <= {*re.findall(r"--[\w=-]+", done.stdout)}
    assert "EXIT STATUS" in done.stdout
    assert "  c:E/ORDER[/N1xN2]  " in done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_a_script_of_the_shell(shell, capsys):
    pytest.importorskip("shtab")
    script = shown(capsys, "completion", shell)
    assert "vmx" in script
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed: apt-get install {shell}")
    subprocess.run([shell, "-n"], input=script, text=True, check=True)


COMPLETE = """
source /dev/stdin <<<"$1"; shift
COMP_WORDS=(kvmharness "$@"); COMP_CWORD=$#; COMP_LINE="${COMP_WORDS[*]}"; COMP_POINT=${#COMP_LINE}
of=$(complete -p kvmharness); of=${of#*-F }; ${of%% *} kvmharness "${!#}" ""
echo "${COMPREPLY[*]}"
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["va"], "validate"),
        (["lab", ""], "build boot exec shell"),
        (["lab", "exec", "--par"], "--param"),
        (["run", "--host", "v"], "vmx vmx:skylake vmx:haswell vmx:sandybridge vmx:lynnfield vmx:penryn"),
        (["help", "cl"], "claims"),
        (["asm", "/etc/passw"], "/etc/passwd /etc/passwd-"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_bash_completes(words, expected, capsys):
    pytest.importorskip("shtab")
    script = shown(capsys, "completion", "bash")
    done = subprocess.run(["bash", "-c", COMPLETE, "bash", script, *words], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert {*expected.split()} >= {*done.stdout.split()} > set()


def test_without_shtab_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["help", "completion", "bash"]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert "pip install 'kvmharness[completion]'" in err


def test_the_other_commands_do_not_load_it():
    loads = "import sys, kvmharness.cli.main; print([m for m in sys.modules if m.startswith('kvmharness.cli')])"
    done = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, check=True)
    assert "kvmharness.cli.help" in done.stdout
    assert not re.search(r"topics|manpage|commands|shtab", done.stdout)
