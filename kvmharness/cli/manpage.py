"""The manual page in roff, as man(7) describes it, made of the parsers and the topics of help."""

import argparse
from collections.abc import Iterable, Iterator, Mapping

from kvmharness import __version__
from kvmharness.cli.commands import commands
from kvmharness.cli.topics import Topic


def page(top: argparse.ArgumentParser, topics: Mapping[str, Topic]) -> str:
    """The whole page.

    Args:
        top: the parser of the command line.
        topics: what else it tells, a section each.
    """
    name = top.prog
    lines = [
        f'.TH {name.upper()} 1 "" "{name} {__version__}" "User Commands"',
        ".SH NAME",
        rf"{name} \- validates KVM patches",
        ".SH SYNOPSIS",
        rf".B {name}",
        r".I COMMAND",
        r"[\fIoptions\fR]",
        ".SH DESCRIPTION",
        _escaped(top.description or ""),
        ".SH COMMANDS",
    ]
    for words, command in commands(top):
        lines += _command(" ".join(words), command)
    for title, topic in topics.items():
        title = "exit status" if title == "exit-codes" else title
        lines += [f".SH {title.upper()}", ".nf", *map(_escaped, topic.text().splitlines()), ".fi"]
    return "\n".join(lines)


def _command(name: str, command: argparse.ArgumentParser) -> Iterator[str]:
    yield f".SS {name}"
    yield _escaped(" ".join(command.format_usage().removeprefix("usage: ").split()))
    yield ".PP"
    yield _escaped(command.description or "")
    for group in command._action_groups:
        shown = [action for action in group._group_actions if action.help and action.help is not argparse.SUPPRESS]
        if shown and group.description:
            yield from (".PP", _escaped(f"{group.title}: {group.description}"))
        for action in shown:
            yield from _action(command, action)
    if command.epilog:
        yield from (".PP", ".nf", *map(_escaped, command.epilog.splitlines()), ".fi")


def _action(command: argparse.ArgumentParser, action: argparse.Action) -> Iterable[str]:
    formatter = command._get_formatter()
    metavar = (action.dest if not action.option_strings else action.dest.upper()) if not action.metavar else ""
    values = formatter._format_args(action, metavar) if action.nargs != 0 else ""
    if action.option_strings:
        options = ", ".join(rf"\fB{_escaped(option)}\fR" for option in action.option_strings)
        head = rf"{options} \fI{_escaped(values)}\fR" if values else options
    else:
        head = rf"\fI{_escaped(values)}\fR"
    return (".TP", head, _escaped(formatter._expand_help(action)))


def _escaped(text: str) -> str:
    """A line of text that roff shows as it is: its own escapes and minus signs, and no request at its beginning."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{text}" if text.startswith((".", "'")) else text
