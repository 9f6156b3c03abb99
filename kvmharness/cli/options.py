"""Options that several verbs share, and the types that read them."""

import argparse
from typing import Protocol

from kvmharness.cli.output import Output


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults where they say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_nothing = action.default is None or action.default is False or action.default == []
        return action.help if says_nothing else super()._get_help_string(action)


class Handler(Protocol):
    """What a verb does with its options; gives the exit code."""

    def __call__(self, options: argparse.Namespace, output: Output) -> int: ...


Verbs = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What `add_subparsers` gives; argparse has no public name for it."""


def verb(verbs: Verbs, name: str, handler: Handler, summary: str, details: str = "") -> argparse.ArgumentParser:  # type: ignore[valid-type]
    """A new verb with the options that all of them have.

    Args:
        verbs: where it is registered.
        name: of the verb.
        handler: does it.
        summary: one line, for the list of verbs.
        details: more, for its own help.
    """
    made: argparse.ArgumentParser = verbs.add_parser(  # type: ignore[attr-defined]
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}. {details}".strip(),
        formatter_class=_Formatter,
    )
    made.set_defaults(handler=handler, verbosity=0)
    loud = made.add_mutually_exclusive_group()
    loud.add_argument(
        "-v", "--verbose", dest="verbosity", action="store_const", const=1, default=argparse.SUPPRESS, help="say more"
    )
    loud.add_argument(
        "-q",
        "--quiet",
        dest="verbosity",
        action="store_const",
        const=-1,
        default=argparse.SUPPRESS,
        help="say nothing on the way",
    )
    return made
