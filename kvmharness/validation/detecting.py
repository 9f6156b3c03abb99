"""Runs turns until an effect of a given size would be seen, or says how many that would take."""

from collections.abc import Callable
from math import ceil, isinf

from kvmharness.results.power import POWER, Detect, detectable, groups_of, turns_needed
from kvmharness.results.record import Record

PILOT = 20
"""Turns that tell the noise at first. Fewer often miss what happens in every tenth turn only."""

_LEAST_MORE = 0.25  # of the turns so far: where noise has grown a little, it is not asked again after each turn


def until_seen(
    detect: Detect,
    record: Callable[[], Record],
    run_turns: Callable[[int], None],
    say: Callable[[str], None],
    *,
    resumed: int = 0,
) -> str:
    """Runs more turns as long as they are needed and there is time.

    Args:
        detect: what is to be seen.
        record: gives what there is by now.
        run_turns: runs so many more turns.
        say: takes how many, and how long that takes.
        resumed: turns that an earlier run had done.

    Returns:
        What came of it, for the record's notes.
    """
    wanted = f"a change of time by {detect.effect:.2%}"
    while True:
        now = record()
        groups = groups_of(now)
        turns = min(map(len, groups), default=0)
        needed = turns_needed(groups, detect.effect)
        if isinf(needed):
            return f"nothing was timed twice, so it is not known when {wanted} would be seen"
        seen = detectable(groups, turns)
        if seen <= detect.effect:
            return (
                f"{wanted} would be seen with {POWER:.0%} power between this run of {turns} turns and another like it; "
                f"compare them with --tolerance {detect.effect / 2:.2%}"
            )
        more = max(ceil(needed) - turns, ceil(turns * _LEAST_MORE))
        spent = now.when.seconds
        whole = spent + more * spent / max(turns - resumed, 1)
        takes = f"it takes {turns + more:,} turns, some {whole:,.0f} s in all, to see {wanted} with {POWER:.0%} power"
        if whole > detect.within_s:
            return f"{takes}, more than --within {detect.within_s:,.0f}s; in {turns} turns {seen:.2%} would be seen"
        say(f"{turns} turns: {takes}")
        run_turns(more)
