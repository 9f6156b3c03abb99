"""A litmus test as a readable table: row, who, action, expected, seen."""

from collections.abc import Iterator, Sequence

from kvmharness.litmus.judge import Outcome

_CUT = 28  # a row whose answers are many need not say all of them


def lines(outcome: Outcome) -> tuple[str, ...]:
    """The table of a test that ran, each wrong row marked; a line with the error where it broke off."""
    if outcome.error:
        return (outcome.error,)
    rows = [
        (
            str(number),
            answer.row.text,
            _expected(answer.expected),
            answer.seen or "-",
            "" if answer.right else "<-- wrong",
        )
        for number, answer in enumerate(outcome.answers, 1)
    ]
    return tuple(_table([("row", "action", "expected", "seen", ""), *rows]))


def why(outcome: Outcome) -> str:
    """In a line, what is wrong; empty where nothing is."""
    if outcome.error:
        return outcome.error
    for number in outcome.wrong:
        answer = outcome.answers[number]
        expected = " or ".join(answer.expected) or "nothing, since it must not be reached"
        return (
            f"row {number + 1}, {answer.row.text}: {answer.seen or 'nothing'} where the architecture allows {expected}"
        )
    return ""


def _expected(answers: Sequence[str]) -> str:
    text = " or ".join(answers) or "(not reached)"
    return text if len(text) <= _CUT else f"{answers[0]} or {len(answers) - 1} others"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, *rest in rows:
        cells = [number.rjust(widths[0]), *(cell.ljust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()
