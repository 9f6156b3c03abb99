"""What maintainers ask for, as a table, and as the paragraph of a cover letter that says how a series was tested."""

from collections.abc import Sequence
from itertools import zip_longest
from textwrap import wrap

from kvmharness import __version__
from kvmharness.report import words
from kvmharness.results.record import Record
from kvmharness.results.verdict import Asked, Verdict, listed

_NAMES = ("asked for by the maintainers", "done", "result", "not done because")
_WIDTHS = (30, 36, 12, 24)
_GAP = "  "
_COLUMNS = 72  # of a mail


def checklist_lines(rows: Sequence[Asked]) -> list[str]:
    """The table, a row for each thing, long entries wrapped inside their column."""
    lines = [_joined(_NAMES), _joined(["-" * width for width in _WIDTHS])]
    for row in rows:
        entries = (row.what, row.done or "-", row.result or "-", row.because or "-")
        wrapped = [wrap(text, width) for text, width in zip(entries, _WIDTHS, strict=True)]
        lines += [_joined(pieces) for pieces in zip_longest(*wrapped, fillvalue="")]
    return lines


def _joined(pieces: Sequence[str]) -> str:
    return _GAP.join(piece.ljust(width) for piece, width in zip(pieces, _WIDTHS, strict=True)).rstrip()


def cover_lines(records: Sequence[Record], verdict: Verdict) -> list[str]:
    """The paragraph, in lines of at most 72 columns."""
    done = [f"{row.what}: {row.result.lower()} ({row.done})" for row in verdict.checklist if row.done]
    lacking = [f"{row.what} ({row.because})" for row in verdict.checklist if row.because]
    machines = listed(list(dict.fromkeys(f"{words.kernel(record)} on {words.machine(record)}" for record in records)))
    sentences = [
        f"Tested with kvmharness {__version__}, each patch on top of the ones before it, against the same tree without "
        f"the series: {machines}.",
        f"{'. '.join(done)}.",
        *([f"Not tested: {'; '.join(lacking)}."] if lacking else []),
    ]
    return wrap(" ".join(sentences), _COLUMNS, break_long_words=False, break_on_hyphens=False)
