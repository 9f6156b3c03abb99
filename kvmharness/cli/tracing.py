"""What `run --trace` prints: one round trip of a cell, or what a patch changes about it."""

from collections.abc import Mapping, Sequence

from kvmharness.cli.output import VERBOSE, Output
from kvmharness.errors import ExitCode
from kvmharness.lab.kernels.symbols import places
from kvmharness.report.roundtrip import RoundTrip, concerned, difference, entries, only, round_trips, telling
from kvmharness.validation.tracing import Traced


def show(cell: str, traced: Sequence[Traced], output: Output) -> int:
    """Prints it.

    Args:
        cell: that was traced.
        traced: under one kernel, or under two to be compared.
        output: where to.

    Returns:
        The exit code: a trace judges nothing, but a guest that failed has.
    """
    trips = [round_trips(entries(each.lines), cut_short=each.failed is not None) for each in traced]
    for each in traced:
        if each.lacking:
            output.say(each.lacking)
        if each.failed:
            output.result(f"{cell} under {each.variant}: {each.failed.message}")
    if not all(trips):
        output.result(f"{cell}: the trace holds no whole round trip: this guest makes none with KVM's help")
    elif len(traced) == 1:
        _whole(f"{cell}, one round trip under {traced[0].variant}", trips[0][-1], output)
    else:
        _beside(cell, traced, trips, output)
    return ExitCode.FAIL if any(each.failed for each in traced) else ExitCode.PASS


def _beside(cell: str, traced: Sequence[Traced], trips: Sequence[Sequence[RoundTrip]], output: Output) -> None:
    names = [each.variant for each in traced]
    count = min(map(len, trips))
    # Where the guest failed is what is looked for.
    place = count - 1 if traced[-1].failed else telling(*trips)
    if place is None:
        output.result(f"{cell}: {count} round trips are the same, call by call, under {names[0]} and {names[1]}")
        place = count - 1
    else:
        before, after = (each[place] for each in trips)
        output.result(f"{cell}, round trip {place + 1} of {count}: - {names[0]}, + {names[1]}")
        for name, more in zip(names, (only(before, after), only(after, before)), strict=True):
            output.result(f"more often under {name}: {_listed(more)}")
        output.result("\n".join(["", *difference(before, after), ""]))
        _source(traced[-1], concerned(before, after), output)
    if output.verbosity >= VERBOSE:
        for name, each in zip(names, trips, strict=True):
            _whole(f"\n{cell}, round trip {place + 1} under {name}", each[place], output)


def _source(traced: Traced, names: Sequence[str], output: Output) -> None:
    """Where the functions begin that a difference is about."""
    found = places(traced.modules, names) if traced.modules else {}
    if found:
        output.result(f"in the source of {traced.variant}:")
    for name in filter(found.__contains__, names):
        output.result(f"  {name}()  {found[name]}")


def _whole(title: str, trip: RoundTrip, output: Output) -> None:
    output.result("\n".join([f"{title}: {len(trip)} calls and events", "", *map(str, trip)]))


def _listed(more: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}x" if count > 1 else name for name, count in more.items()) or "nothing"
