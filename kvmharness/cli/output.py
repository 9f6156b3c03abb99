"""What the user sees: results on standard output, everything on the way there on standard error.

On a terminal with rich installed, progress is one line that moves; without a terminal or without rich it is plain
lines, so that a log shows the same steps.
"""

import os
import re
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from kvmharness.system.shown import colours_wanted, shown

QUIET, NORMAL, VERBOSE = -1, 0, 1

_HEARTBEAT_S = 20.0  # a log must not look dead for longer


class Task(Protocol):
    """Something that takes longer than a second."""

    def step(self, message: str, done: int | None = None, total: int | None = None) -> None:
        """Says what is being done now, and how much of it if that is known."""
        ...

    def tick(self, message: str) -> None:
        """Says how it is getting on, as often as one likes; a log gets to see some of it."""
        ...


def _remark(text: str) -> None:
    if sys.stderr is not None:  # it may be closed, and print() would take the standard output for it
        with suppress(OSError):
            print(shown(text), file=sys.stderr, flush=True)


class Output:
    """Where a verb's words go.

    Args:
        verbosity: QUIET, NORMAL or VERBOSE.
    """

    def __init__(self, verbosity: int = NORMAL) -> None:
        self.verbosity = verbosity
        self._ours = secrets.token_hex(8)  # nobody else's text can hold a colour of ours

    @property
    def colour(self) -> bool:
        """Whether results may be coloured."""
        return sys.stdout.isatty() and colours_wanted() and os.environ.get("TERM") != "dumb"

    def result(self, text: str) -> None:
        """A result: standard output, always."""
        print(re.sub(rf"{self._ours}:(\d+);", "\x1b[\\1m", shown(text)))

    def document(self, text: str) -> None:
        """A result for programs, who want it as it is: JSON."""
        print(text)

    def say(self, text: str) -> None:
        """What is going on; not with --quiet. Where it cannot be said the work goes on: it is no result."""
        if self.verbosity >= NORMAL:
            _remark(text)

    def detail(self, text: str) -> None:
        """What only --verbose shows."""
        if self.verbosity >= VERBOSE:
            _remark(text)

    def paint(self, text: str, style: str) -> str:
        """*text* in green, red, yellow or dim where the terminal can, for :meth:`result`."""
        codes = {"green": 32, "red": 31, "yellow": 33, "dim": 2}
        return f"{self._ours}:{codes[style]};{text}{self._ours}:0;" if self.colour else text

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        """Shows a task while it runs."""
        if self.verbosity < NORMAL:
            yield _Silent()
        elif (
            sys.stderr is not None
            and sys.stderr.isatty()
            and self.verbosity == NORMAL
            and (rich := _rich_progress()) is not None
        ):
            with rich:
                yield _Live(rich, title)
        else:
            yield _Lines(title, self)


class _Silent:
    def step(self, message: str, done: int | None = None, total: int | None = None) -> None:
        """Says nothing."""

    def tick(self, message: str) -> None:
        """Says nothing."""


class _Lines:
    """One line a step; where steps come quickly, as with a counter, only the first, the last and a heartbeat."""

    def __init__(self, title: str, output: Output) -> None:
        self._title = title
        self._output = output
        self._started = time.monotonic()
        self._shown = float("-inf")

    def step(self, message: str, done: int | None = None, total: int | None = None) -> None:
        now = time.monotonic()
        if done is not None and done not in (0, total) and now - self._shown < _HEARTBEAT_S:
            return
        self._shown = now
        count = f" {done}/{total}" if total else ""
        self._output.say(f"[{now - self._started:6.1f} s] {self._title}:{count} {message}")

    def tick(self, message: str) -> None:
        if time.monotonic() - self._shown >= _HEARTBEAT_S:
            self.step(message)


class _Live:
    """A line of rich's that moves."""

    def __init__(self, progress: Any, title: str) -> None:
        self._progress = progress
        self._title = title
        self._task = progress.add_task(title, total=None)

    def step(self, message: str, done: int | None = None, total: int | None = None) -> None:
        # Markup would eat the square brackets of a compiler's message.
        from rich.markup import escape

        text = f"{self._title}: {escape(shown(message.strip().partition(chr(10))[0]))}"
        self._progress.update(self._task, description=text[:110], completed=done or 0, total=total)

    def tick(self, message: str) -> None:
        self.step(message)


def _rich_progress() -> Any:
    """A progress display, None where rich is not installed."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    except ImportError:
        return None
    columns = (
        SpinnerColumn(),
        TimeElapsedColumn(),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
    )
    console = Console(stderr=True, color_system="auto" if colours_wanted() else None)  # by itself it keeps bold and dim
    return Progress(*columns, console=console, transient=True)
