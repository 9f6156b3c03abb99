"""Guest programs that stand in a test's own source."""

import sys
from collections.abc import Callable
from pathlib import Path

from kvmharness.guest import programs
from kvmharness.guest.image import Image
from kvmharness.guest.layout import Place
from kvmharness.guest.program import AssembleError, parse_text

Assemble = Callable[..., Image]

_HEADER = {
    "purpose": "a test's own program",
    "in": "none",
    "out": "what the test looks at",
    "clobber": "all",
    "memory": "0x0 MEMORY_BYTES everything",
    "exits": "what the test expects",
    "source": "the test",
}
_ORIGINS = {"long64": Place.L1_CODE, "real16": Place.REAL_MODE_CODE}


def assemble_inline(source: str, *, mode: str = "long64", registers: str = "none", **values: int) -> Image:
    """Assembles source text that stands in the calling function.

    Args:
        source: Keystone's Intel syntax with ``0x`` before every number and a label ``entry``.
        mode: ``long64`` (paging on, gpa = gva) or ``real16``.
        registers: at the entry, as in a program's header: ``rdi = MAILBOX; rcx = 0x5``.
        values: names that the source may use, besides those of :mod:`kvmharness.guest.layout`.

    Raises:
        AssembleError: naming the test's file and the line at fault.
    """
    __tracebackhide__ = True  # the line that a reader wants to see is the test's
    from kvmharness.guest.assembler import assemble

    path, first_line = _place_of(source)
    if mode not in _ORIGINS:
        raise AssembleError(f"unknown mode {mode!r}", path, first_line, hint=f"There are: {', '.join(_ORIGINS)}.")
    header = {**_HEADER, "mode": mode, "in": registers}
    # Empty lines in front make every number that is reported the test file's own.
    text = "\n" * (first_line - 1) + source
    try:
        program = parse_text(text, path, name="inline", read_include=_read_shipped, header=header)
        image = assemble(program, {**programs.named_values(), **values}, _ORIGINS[mode])
    except AssembleError as error:
        raise error.with_traceback(None) from None  # how the assembler found out is nobody's business here
    if "entry" not in image.symbols:
        raise AssembleError("there is no label 'entry'", path, first_line, hint="The guest starts there.")
    return image


def _place_of(source: str) -> tuple[str, int]:
    """File and first line of *source* in the function that called :func:`assemble_inline`."""
    frame = sys._getframe(2)
    path, line = frame.f_code.co_filename, frame.f_lineno
    try:
        text = Path(path).read_text("utf-8")
    except OSError:
        return path, line
    # From the call on first: the same program may stand in the file twice.
    start = sum(len(one) for one in text.splitlines(keepends=True)[: line - 1])
    found = text.find(source, start)
    if found < 0:
        found = text.find(source)
    return path, line if found < 0 else text.count("\n", 0, found) + 1


def _read_shipped(name: str) -> str:
    """A file that the source includes: one of the shipped ones."""
    return (programs.source_folder() / name).read_text("utf-8")
