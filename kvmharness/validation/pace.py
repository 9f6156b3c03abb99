"""How much time a run of several parts has left, as far as earlier runs of such parts on this machine tell."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from kvmharness.results.jsonread import ShapeError, parse
from kvmharness.system import cache
from kvmharness.system.files import WriteError, write_whole

_FILE = "pace.json"
_PARTS_MAX = 200
_LONGEST_S = 7 * 86400.0


class Pace:
    """The parts of one run, done one after the other, or some of them side by side.

    Args:
        units: how much there is to do, by part: variants times settings, say. Parts have their names in common with
            those of other runs.
        remember: what parts took is known from other runs, and kept for others.
        clock: seconds.

    Attributes:
        took: seconds, by part, of those that are done.
    """

    def __init__(
        self, units: Mapping[str, int], *, remember: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.took: dict[str, float] = {}
        self._units, self._clock = units, clock
        self._remember = remember
        self._known = _read() if remember else {}  # seconds a unit, by part
        self._now: dict[str, float] = {}  # when those that are being done began

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part that is being done; what it took is kept for other runs if it went to its end."""
        began = self._clock()
        self._now[name] = began
        try:
            yield
        finally:
            del self._now[name]
        self.took[name] = self._clock() - began
        if self._remember:
            _keep(name, self.took[name] / max(1, self._units[name]))

    @property
    def left(self) -> float | None:
        """Seconds; None where a part is left that was never done before."""
        seconds = 0.0
        for name, units in self._units.items():
            if name in self.took:
                continue
            if name not in self._known:
                return None
            elapsed = self._clock() - self._now[name] if name in self._now else 0.0
            seconds += max(0.0, self._known[name] * units - elapsed)
        return seconds

    def __str__(self) -> str:
        """What stands before a line of progress."""
        number = len(self.took) + 1
        left = self.left
        told = "" if left is None else f", {left / 60:.0f} min left" if left >= 90 else f", {left:.0f} s left"
        return f"part {number} of {len(self._units)}{told}"


def _read() -> dict[str, float]:
    """What was kept; nothing where it cannot be read."""
    try:
        found = parse((cache.root() / _FILE).read_bytes())
        items = found.items() if isinstance(found, dict) else ()
        return {str(name): float(each) for name, each in items if 0 <= float(each) <= _LONGEST_S}
    except (OSError, ShapeError, ValueError, TypeError):
        return {}


def _keep(name: str, seconds: float) -> None:
    known = {each: value for each, value in _read().items() if each != name}
    newest = [*known.items(), (name, round(seconds, 3))][-_PARTS_MAX:]
    with suppress(WriteError, OSError):  # a run is not to end for want of a guess about the next one
        write_whole(cache.root() / _FILE, json.dumps(dict(newest)).encode())
