"""What a host under test says while it does a job: events as values, and as the JSON that carries them out.

Loaded inside an emulated host, so it imports next to nothing. They are read by :mod:`kvmharness.lab.jobrun`, outside.
"""

import json

from kvmharness.lab.steps import Exited, fields_of
from kvmharness.lean.dataclasses import dataclass

# Larger than any event; whoever says that more is coming is not to be waited for.
MAX_EVENT_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Hello:
    """The first event: the host is up.

    Attributes:
        python: version of the interpreter that does the job.
        uptime_ns: the host's monotonic clock.
        nonce: the run's, as the job brought it in.
    """

    python: str
    uptime_ns: int
    nonce: str = ""


@dataclass(frozen=True, slots=True)
class Begin:
    """A step begins; ``step`` is its number in the job, here and below."""

    step: int


@dataclass(frozen=True, slots=True)
class Data:
    """A called function emitted ``data``."""

    step: int
    data: dict[str, object]


@dataclass(frozen=True, slots=True)
class Output:
    """A called function or a program printed ``text``."""

    step: int
    text: str


@dataclass(frozen=True, slots=True)
class Dmesg:
    """The kernel log gained ``lines`` during a step."""

    step: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Memory:
    """What the kernel holds for itself after modules were unloaded.

    Attributes:
        held: bytes, by where: see :func:`kvmharness.lab.inside.memory.kernel_memory`.
    """

    step: int
    held: dict[str, int]


@dataclass(frozen=True, slots=True)
class End:
    """A step is done.

    Attributes:
        result: names of modules of a load or an unload, what a called function returned, or an
            :class:`kvmharness.lab.steps.Exited`.
    """

    step: int
    result: object


@dataclass(frozen=True, slots=True)
class Failed:
    """A step could not be done.

    Attributes:
        type: name of the exception's class.
        message: its text.
        hint: what to do next, or an empty string.
        exit_code: of one of the tool's own errors; None for a bug.
        traceback: of a bug, or an empty string.
    """

    step: int
    type: str
    message: str
    hint: str = ""
    exit_code: int | None = None
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Bye:
    """The last event: it tells a complete job from one that was cut short.

    Attributes:
        events: how many there were before it: one that was damaged on its way is missed, whatever it said.
    """

    events: int


Event = Hello | Begin | Data | Output | Dmesg | Memory | End | Failed | Bye


def kind_of(event: Event) -> str:
    """``hello``, ``begin``, ``data``, ``output``, ``dmesg``, ``memory``, ``end``, ``failed`` or ``bye``."""
    return type(event).__name__.lower()


def encode(event: Event) -> bytes:
    """An event as JSON.

    Raises:
        TypeError: what a function emitted or returned is not plain JSON.
        ValueError: it contains itself, or is larger than :data:`MAX_EVENT_BYTES`.
    """
    row = {"event": kind_of(event), **fields_of(event)}
    text = json.dumps(row, separators=(",", ":"), default=_plain).encode()
    if len(text) > MAX_EVENT_BYTES:
        raise ValueError(f"an event of {len(text)} bytes is larger than one may be ({MAX_EVENT_BYTES})")
    return text


def _plain(value: object) -> object:
    if isinstance(value, Exited):
        return fields_of(value)
    raise TypeError(f"a {type(value).__name__} is not plain JSON and cannot leave the host under test")
