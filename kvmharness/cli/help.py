"""help: topics, made of the code's own tables; any command's help; the manual page; and scripts for a shell."""

import argparse
from dataclasses import dataclass

from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import Output
from kvmharness.errors import ExitCode, UsageError

_COMPLETION = """\
bash: kvmharness help completion bash >~/.local/share/bash-completion/completions/kvmharness
zsh:  kvmharness help completion zsh >FOLDER/_kvmharness, where FOLDER is one of $fpath

The script is generated from the parsers by shtab, and has no need of it later: pip install 'kvmharness[completion]'"""


def add(verbs: Verbs) -> None:  # type: ignore[valid-type]
    """Registers the verb."""
    made = verb(
        verbs,
        "help",
        read,
        act,
        "explain a topic: cells, claims, litmus tests, hosts, ...; or a command",
        "Without a topic, lists them.",
        examples=("kvmharness help claims", "kvmharness help lab exec", "kvmharness help man | man -l -"),
    )
    made.add_argument("words", metavar="TOPIC", nargs="*", help="a topic, or a command's words")


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be explained.

    Attributes:
        words: a topic or a command; none for the list of topics.
        top: the parser of the command line.
    """

    words: tuple[str, ...]
    top: argparse.ArgumentParser


def read(options: argparse.Namespace) -> Request:
    """What is asked for."""
    return Request(tuple(options.words), options.top)


def act(request: Request, output: Output) -> int:
    """Explains it.

    Raises:
        UsageError: there is no such topic or command.
        HostRequirementError: shtab is not installed.
    """
    from kvmharness.cli.commands import SHELLS, commands, completion
    from kvmharness.cli.manpage import page
    from kvmharness.cli.topics import TOPICS, table

    words = request.words
    by_words = dict(commands(request.top))
    if not words:
        rows = [(name, topic.summary) for name, topic in TOPICS.items()]
        rows += [("completion", "how bash and zsh come to complete the command line"), ("man", "the manual page")]
        output.result(f"kvmharness help TOPIC, where TOPIC is a command or one of\n\n{table(rows)}")
    elif len(words) == 1 and words[0] in TOPICS:
        output.result(TOPICS[words[0]].text())
    elif words == ("man",):
        output.document(page(request.top, TOPICS))
    elif words == ("completion",):
        output.result(_COMPLETION)
    elif words in [("completion", shell) for shell in SHELLS]:
        output.document(completion(request.top, words[1]))
    elif words in by_words:
        output.result(by_words[words].format_help().rstrip())
    else:
        known = ", ".join([*TOPICS, "completion [bash|zsh]", "man", *map(" ".join, by_words)])
        raise UsageError(f"there is no help about {' '.join(words)!r}", f"There is about: {known}.")
    return ExitCode.PASS
