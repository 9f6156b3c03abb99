"""Makes a failing program shorter: rows are left out as long as it still fails in the same way.

All candidates of a round are tried in one job, since a job costs more than a program. Source: the minimizing delta
debugging algorithm (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input").
"""

from collections.abc import Callable, Sequence

from kvmharness.errors import UsageError
from kvmharness.litmus.judge import Outcome
from kvmharness.litmus.program import Program

Try = Callable[[Sequence[Program]], Sequence[Outcome]]
"""Runs programs; an outcome each."""

_ROUNDS_MAX = 40


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

    A round tries many ways to leave rows out; those that work each by itself are then tried together.

    Args:
        failing: a program.
        outcome: what came of it.
        attempt: runs candidates.
        report: takes every shorter one on the way.
    """
    wanted = way(outcome)
    found = _cut(failing, outcome)

    def still(ways: Sequence[frozenset[int]]) -> list[tuple[Program, frozenset[int]]]:
        """The ways to leave rows out of what was found that keep it failing, each with what is left."""
        made = [(each, program) for each in ways if (program := _without(found, each)) is not None]
        outcomes = attempt([program for _, program in made])
        pairs = zip(made, outcomes, strict=True)
        return [(_cut(program, seen), left_out) for (left_out, program), seen in pairs if way(seen) == wanted]

    size = len(found.rows) // 2
    for _ in range(_ROUNDS_MAX):
        alone = still([*_pieces(found, max(size, 1)), *_bursts(found)])
        if not alone:
            if size <= 1:
                break
            size //= 2
            continue
        together = still(_unions([rows for _, rows in alone])) if len(alone) > 1 else []
        found = min((program for program, _ in [*alone, *together]), key=lambda program: len(program.rows))
        report(found)
        size = min(size, len(found.rows) // 2)
    return found


def _pieces(program: Program, size: int) -> list[frozenset[int]]:
    """The rows of a program in pieces of one size."""
    rows = len(program.rows)
    return [frozenset(range(start, min(start + size, rows))) for start in range(0, rows, size)]


def _bursts(program: Program) -> list[frozenset[int]]:
    """Each entry to L2 with what L2 does until it leaves: none of it makes sense without the other."""
    found: list[set[int]] = []
    for number, row in enumerate(program.rows):
        if row.verb == "enter":
            found.append({number})
        elif found and row.who in ("L2", "host") and number - 1 in found[-1]:
            found[-1].add(number)
    return [frozenset(each) for each in found]


def _unions(ways: Sequence[frozenset[int]]) -> list[frozenset[int]]:
    """All of the ways at once, then halves, quarters ... of them."""
    found, size = [], len(ways)
    while size > 1:
        found += [frozenset().union(*ways[start : start + size]) for start in range(0, len(ways), size)]
        size = -(-size // 2)
    return found


def _cut(program: Program, outcome: Outcome) -> Program:
    """Without what is behind the first wrong row."""
    if not outcome.wrong:
        return program
    return Program(program.name, program.rows[: outcome.wrong[0] + 1])


def _without(program: Program, rows: frozenset[int]) -> Program | None:
    """The program without some of its rows; None where that is none."""
    try:
        return Program(program.name, tuple(row for number, row in enumerate(program.rows) if number not in rows))
    except UsageError:
        return None
