"""Makes a failing program shorter: rows are left out as long as it still fails in the same way.

All candidates of a round are tried in one job, since a job costs more than a program. Source: the minimizing delta
debugging algorithm (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input").
"""

from collections.abc import Callable, Sequence

from kvmharness.errors import UsageError
from kvmharness.litmus.judge import Outcome
from kvmharness.litmus.program import Program, Row

Try = Callable[[Sequence[Program]], Sequence[Outcome]]
"""Runs programs; an outcome each."""

_ROUNDS_MAX = 24


def way(outcome: Outcome) -> tuple[str, ...]:
    """How a test failed, whatever its pages were called; empty when it did not."""
    if outcome.error:
        return (outcome.error.partition(":")[0],)
    for number in outcome.wrong:
        answer = outcome.answers[number]
        kind = answer.seen.split("(")[0].split(" ")[0].rstrip("0123456789")
        return answer.row.who, answer.row.verb.removeprefix("u"), kind
    return ()


def shrink(failing: Program, outcome: Outcome, attempt: Try, report: Callable[[Program], None]) -> Program:
    """The shortest program found that fails in the same way.

    Args:
        failing: a program.
        outcome: what came of it.
        attempt: runs candidates.
        report: takes every shorter one on the way.
    """
    wanted = way(outcome)
    found = _cut(failing, outcome)
    pieces = 2
    for _ in range(_ROUNDS_MAX):
        candidates = list(_without(found, pieces))
        if not candidates:
            break
        outcomes = attempt(candidates)
        again = [(each, seen) for each, seen in zip(candidates, outcomes, strict=True) if way(seen) == wanted]
        if again:
            best, seen = min(again, key=lambda pair: len(_cut(*pair).rows))
            found = _cut(best, seen)
            report(found)
            pieces = max(pieces // 2, 2)
        elif pieces >= len(found.rows):
            break
        else:
            pieces = min(pieces * 2, len(found.rows))
    return found


def _cut(program: Program, outcome: Outcome) -> Program:
    """Without what is behind the first wrong row."""
    if not outcome.wrong:
        return program
    return Program(program.name, program.rows[: outcome.wrong[0] + 1])


def _without(program: Program, pieces: int) -> Sequence[Program]:
    """The program without each of its pieces."""
    rows, found = program.rows, []
    size = max(1, -(-len(rows) // pieces))
    for start in range(0, len(rows), size):
        left = rows[:start] + rows[start + size :]
        if (made := _valid(program.name, left)) is not None:
            found.append(made)
    return found


def _valid(name: str, rows: tuple[Row, ...]) -> Program | None:
    try:
        return Program(name, rows)
    except UsageError:
        return None
