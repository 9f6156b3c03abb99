"""The one place where what a host under test says is read, and held against the job that it was given.

It comes from a kernel that may be broken: nothing is believed before it was checked. Each event must have the shape of
its kind, come at its time and be about the step that is going on; at the end every step must have its result. All else
is a :class:`kvmharness.lab.job.ProtocolError`.
"""

import json
from collections.abc import Callable, Mapping
from signal import Signals
from typing import Any

from kvmharness.errors import ExitCode, UsageError
from kvmharness.lab.events import Begin, Bye, Data, Dmesg, End, Event, Failed, Hello, Memory, Output, kind_of
from kvmharness.lab.job import Job, OnEvent, ProtocolError, StepFailedError
from kvmharness.lab.steps import Call, Exec, Exited, Load, Unload
from kvmharness.lab.steps import kind_of as kind_of_step
from kvmharness.results.jsonread import (
    Fields,
    ShapeError,
    an_object,
    boolean,
    integer,
    integer_map,
    list_of,
    or_none,
    text,
    texts,
)

# All events of a job together. More is a host that does nothing but talk.
MAX_JOB_BYTES = 1 << 30
MAX_LOG_BYTES = 1 << 26

Reader = Callable[[object, str], Any]


def _natural(below: int) -> Reader:
    def read(value: object, where: str) -> int:
        number = integer(value, where)
        if not 0 <= number < below:
            raise ShapeError(f"{where}: {number} is out of range")
        return number

    return read


def _words(value: object, where: str) -> str:
    """A string that can be printed: what is no character is escaped."""
    return text(value, where).encode(errors="backslashreplace").decode()


def _exit_code(value: object, where: str) -> ExitCode:
    number = integer(value, where)
    if number not in list(ExitCode) or number == ExitCode.PASS:  # a failure must not end this process with 0
        raise ShapeError(f"{where}: {number} is no error's exit code")
    return ExitCode(number)


def _signal(value: object, where: str) -> str:
    name = text(value, where)
    if name not in Signals.__members__:
        raise ShapeError(f"{where}: {name[:40]!r} is no signal")
    return name


def _anything(value: object, where: str) -> object:
    return value


_STEP = _natural(1 << 31)
# The fields of each kind of event, in the order in which its class takes them.
_SHAPES: Mapping[str, tuple[Callable[..., Event], Mapping[str, Reader]]] = {
    "hello": (Hello, {"python": _words, "uptime_ns": _natural(1 << 63), "nonce": text}),
    "begin": (Begin, {"step": _STEP}),
    "data": (Data, {"step": _STEP, "data": an_object}),
    "output": (Output, {"step": _STEP, "text": _words}),
    "dmesg": (Dmesg, {"step": _STEP, "lines": list_of(_words)}),
    "memory": (Memory, {"step": _STEP, "held": integer_map}),
    "end": (End, {"step": _STEP, "result": _anything}),
    "failed": (
        Failed,
        {
            "step": _STEP,
            "type": _words,
            "message": _words,
            "hint": _words,
            "exit_code": or_none(_exit_code),
            "traceback": _words,
        },
    ),
    "bye": (Bye, {"events": _natural(1 << 31)}),
}


def _exited(value: object, where: str) -> Exited:
    with Fields(value, where) as fields:
        ended = Exited(
            status=fields.take("status", or_none(_natural(256))),
            signal=fields.take("signal", or_none(_signal)),
            timed_out=fields.take("timed_out", boolean),
        )
    if (ended.status is None) == (ended.signal is None):
        raise ShapeError(f"{where}: a program ends with a status or by a signal")
    return ended


_RESULTS: Mapping[type, Reader] = {Load: texts, Unload: texts, Call: _anything, Exec: _exited}
# What a step of each kind may say between its beginning and its end.
_SAYS: Mapping[type, tuple[type, ...]] = {
    Load: (Dmesg, End, Failed),
    Unload: (Dmesg, Memory, End, Failed),
    Call: (Data, Output, Dmesg, End, Failed),
    Exec: (Output, Dmesg, End, Failed),
}


def decode(payload: bytes) -> Event:
    """An event, as :func:`kvmharness.lab.events.encode` wrote it.

    Raises:
        ShapeError: it is none.
    """
    try:
        row = json.loads(payload)
    except (ValueError, RecursionError) as error:  # not JSON or UTF-8, a number of thousands of digits, endless nesting
        raise ShapeError(f"not JSON: {error}") from None
    with Fields(row) as fields:
        kind = fields.take("event", text)
        if kind not in _SHAPES:
            raise ShapeError(f"event: {kind[:40]!r} is none")
        made, shape = _SHAPES[kind]
        return made(*(fields.take(name, reader) for name, reader in shape.items()))


class JobRun:
    """A job being done: takes what the host says, hands on what belongs to it.

    Args:
        job: what the host was given.
        on_event: takes each event.

    Attributes:
        complete: whether the host has said that the job is done.
    """

    def __init__(self, job: Job, on_event: OnEvent) -> None:
        self._steps, self._nonce, self._on_event = job.steps, job.nonce, on_event
        self._last: Event | None = None
        self._begun = 0  # how many steps
        self._open = False
        self._taken = self._bytes = self._log_bytes = 0
        self._error: BaseException | None = None
        self.complete = False

    @property
    def progress(self) -> str:
        """How far the job has come, for messages."""
        if self._last is None:
            return "the agent had not started"
        if not self._begun:
            return "no step had begun"
        return f"last heard of in step {self._begun - 1} ({kind_of(self._last)})"

    def take(self, payload: bytes) -> None:
        """Takes one event as it came; after an error there is no more to take, and the error comes again.

        Raises:
            ProtocolError: it does not belong to the job, or what it says is not what the listener can take.
            StepFailedError: it says that a required step failed.
        """
        if self._error is not None:
            raise self._error
        try:
            self._take(payload)
        except BaseException as error:
            self._error = error
            raise

    def _take(self, payload: bytes) -> None:
        self._bytes += len(payload)
        try:
            if self._bytes > MAX_JOB_BYTES:
                raise ShapeError(f"more than {MAX_JOB_BYTES} bytes of events")
            event = self._in_order(decode(payload))
            if isinstance(event, Dmesg):  # which are all kept
                self._log_bytes += len(payload)
                if self._log_bytes > MAX_LOG_BYTES:
                    raise ShapeError(f"more than {MAX_LOG_BYTES} bytes of the kernel's log")
            self._last = event
            self._taken += 1
            self._on_event(event)
        except UsageError as error:
            raise ProtocolError(str(error), self.progress) from error
        if isinstance(event, Failed) and (step := self._steps[event.step]).required:
            raise StepFailedError(step, event)
        self.complete = isinstance(event, Bye)

    def _in_order(self, event: Event) -> Event:
        """The event, its result typed. Raises: ShapeError, when this is not its time."""
        kind = kind_of(event)
        if self.complete:
            raise ShapeError(f"{kind} after the end")
        if isinstance(event, Hello) != (self._last is None):
            raise ShapeError("hello twice" if isinstance(event, Hello) else f"{kind} before hello")
        if isinstance(event, Hello):
            if event.nonce != self._nonce:
                raise ShapeError("hello of another run")
            return event
        if isinstance(event, Bye):
            return self._bye(event)
        if isinstance(event, Begin):
            return self._begin(event)
        if not self._open or event.step != self._begun - 1:
            raise ShapeError(f"{kind} of step {event.step}, which is not going on")
        step = self._steps[event.step]
        if type(event) not in _SAYS[type(step)]:
            raise ShapeError(f"{kind} of step {event.step}, which is of kind {kind_of_step(step)}")
        if isinstance(event, End | Failed):
            self._open = False
        if isinstance(event, End):
            return End(event.step, _RESULTS[type(step)](event.result, "result"))
        return event

    def _begin(self, event: Begin) -> Begin:
        if self._open:
            raise ShapeError(f"step {event.step} begins while step {self._begun - 1} is going on")
        if event.step != self._begun or event.step >= len(self._steps):
            raise ShapeError(f"step {event.step} begins after {self._begun} of {len(self._steps)} steps")
        self._begun += 1
        self._open = True
        return event

    def _bye(self, event: Bye) -> Bye:
        if self._open:
            raise ShapeError(f"bye during step {self._begun - 1}")
        if self._begun < len(self._steps):
            raise ShapeError(f"bye, and no result of {len(self._steps) - self._begun} of {len(self._steps)} steps")
        if event.events != self._taken:
            raise ShapeError(f"bye after {event.events} events, of which {self._taken} have come")
        return event
