"""What is seen to while guests run on a real host: their thread stays on one CPU, and what disturbs it is found.

Nothing of the host is changed, only where this process's own thread may run.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kvmharness.errors import UsageError
from kvmharness.measure.spoilers import Finding, findings, quietest, snapshot

QUIETEST, ANY = "quietest", "any"
"""In the place of a CPU's number: the one that has the least to do; or the thread is not pinned."""

_LOOK_S = 0.2  # how long CPUs are looked at before one is chosen: 20 ticks


class Watch:
    """Where the vCPUs' thread runs, how guest memory is backed, and what was found to disturb a run.

    Args:
        cpu: a CPU's number, :data:`QUIETEST` or :data:`ANY`.
        memory: beyond that it is touched before the guest starts: names of :data:`kvmharness.kvm.memory.BACKINGS`.
        root: prefix of ``/proc`` and ``/sys``, for tests.

    Raises:
        UsageError: there is no such CPU, or this process may not use it.
    """

    def __init__(self, cpu: str = QUIETEST, memory: tuple[str, ...] = (), root: str = "/") -> None:
        self.memory = memory
        self._root = root
        self._wanted: int | None = None if cpu in (QUIETEST, ANY) else int(cpu)
        self._any = cpu == ANY
        self._found: tuple[Finding, ...] = ()
        if self._wanted is not None:
            with _pinned((self._wanted,)):
                pass  # it can be

    @contextmanager
    def run(self) -> Iterator[None]:
        """Inside, the calling thread is pinned; what disturbed it is found out at the end."""
        cpus = self._cpus()
        with _pinned(cpus):
            before = snapshot(cpus, self._root)
            try:
                yield
            finally:
                self._found = findings(before, snapshot(cpus, self._root))

    def _cpus(self) -> tuple[int, ...]:
        allowed = tuple(sorted(os.sched_getaffinity(0)))
        if self._any:
            return allowed
        if self._wanted is None:
            before = snapshot(allowed, self._root)
            time.sleep(_LOOK_S)
            self._wanted = quietest(allowed, before, snapshot(allowed, self._root), self._root)
        return (self._wanted,)

    @property
    def facts(self) -> dict[str, object]:
        """For the record's host."""
        return {
            "pinned_to_cpu": None if self._any else self._wanted,
            "guest_memory": ", ".join(("touched", *self.memory)),
        }

    @property
    def remarks(self) -> tuple[str, ...]:
        """What spoiled figures, a sentence each."""
        return tuple(f"{finding}" for finding in self._found)


@contextmanager
def _pinned(cpus: tuple[int, ...]) -> Iterator[None]:
    """Inside, the calling thread runs on these CPUs only."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as e:
        online = ", ".join(map(str, sorted(before)))
        raise UsageError(f"no thread can be put on CPU {cpus[0]}: {e.strerror}", f"Choose one of {online}.") from e
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
