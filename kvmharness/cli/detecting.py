"""Options that say which effect a run is to be long enough for."""

import argparse

from kvmharness.cli.options import percent, seconds
from kvmharness.errors import UsageError
from kvmharness.results.power import Detect
from kvmharness.validation.host import HERE
from kvmharness.validation.hostbase import Host

_WITHIN_S = 600.0


def add_detect_options(group: argparse._ArgumentGroup) -> None:
    """The options."""
    group.add_argument(
        "--detect",
        metavar="PERCENT",
        type=_effect,
        help="run turns until a change of time by so much would be seen between two such runs with a power of 95 %%; "
        "ends with 3 where that takes longer than --within, and says how long",
    )
    group.add_argument("--within", metavar="TIME", type=seconds, help=f"see --detect (default: {_WITHIN_S / 60:.0f}m)")


def detect_of(options: argparse.Namespace, host: Host) -> Detect | None:
    """What :func:`add_detect_options` read.

    Raises:
        UsageError: there is no noise on this host, or a limit of nothing.
    """
    if options.detect is None:
        if options.within is not None:
            raise UsageError("--within says how long --detect may take", "Add --detect, such as --detect 1%.")
        return None
    if host.turns == 1:  # for one that repeats exactly
        raise UsageError(
            f"every turn is the same on {host.spec}: there is no noise in which an effect could be lost",
            f"Leave --detect away, or add --host {HERE}.",
        )
    return Detect(options.detect, options.within or _WITHIN_S)


def _effect(text: str) -> float:
    value = percent(text)
    if not 0.0001 <= value <= 0.5:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0.01 to 50")
    return value
