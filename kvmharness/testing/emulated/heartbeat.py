"""Runs inside an emulated host: gives a sign of life while tests are loaded and run.

A guest may keep its whole host from everything, interrupts and time limits included: Bochs 2.7 delivers none while a
guest's IF is 0. Such a host can only be ended from outside, where nothing is seen of it but its silence.
"""

from collections.abc import Callable
from importlib import import_module
from threading import Event, Thread
from typing import Any

INTERVAL_S = 0.2
"""Of the host's own time, which in QEMU takes some ten times as long as ours."""

SILENCE_S = 10.0
"""So long may a host be silent in the emulator's processor time, before it is taken for one that hangs."""

_RUN = "kvmharness.testing.emulated.inside", "run"


def run(emit: Callable[[dict[str, Any]], None], **arguments: Any) -> None:
    """As :func:`kvmharness.testing.emulated.inside.run`, which is imported meanwhile: that takes seconds as well."""
    over = Event()

    def beat() -> None:
        while not over.wait(INTERVAL_S):
            emit({"pytest": "alive"})

    beating = Thread(target=beat, name="heartbeat", daemon=True)
    beating.start()
    try:
        module, name = _RUN
        getattr(import_module(module), name)(emit, **arguments)
    finally:
        over.set()
        beating.join()
