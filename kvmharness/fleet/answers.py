"""What travels back from a worker: the events of a job, as the host under test said them, and how it ended."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from kvmharness.errors import LostMachineError
from kvmharness.fleet.wire import SCHEMA, WireError, check_version, parsed
from kvmharness.lab.job import HangError, KernelPanicError
from kvmharness.lab.steps import fields_of
from kvmharness.results.jsonread import Fields, ShapeError, or_none, parse, text, texts


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended that did not go to its end by itself.

    Attributes:
        kind: name of the error's class.
        message, hint: the error's own.
        console: the machine's.
    """

    kind: str
    message: str
    hint: str = ""
    console: tuple[str, ...] = ()

    def error(self, worker: str) -> LostMachineError:
        """The error again."""
        kinds: Mapping[str, type[LostMachineError]] = {each.__name__: each for each in (KernelPanicError, HangError)}
        where = f"{worker}: {self.message}"
        return kinds.get(self.kind, LostMachineError)(where, self.hint, self.console)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a job.

    Attributes:
        worker: who did it.
        events: each as the host under test said it.
        ended: None when the job went to its end.
    """

    worker: str
    events: tuple[str, ...] = ()
    ended: Ended | None = None


def write_answer(answer: Answer) -> str:
    """As JSON."""
    ended = answer.ended and fields_of(answer.ended)
    return json.dumps({"schema": SCHEMA, **fields_of(answer), "ended": ended})


def read_ended(document: bytes) -> Ended:
    """How a job ended, as JSON of its fields. Raises: ShapeError, it is not that."""
    return _ended(parse(document), "ended")


def read_answer(document: object) -> Answer:
    """The inverse of :func:`write_answer`.

    Raises:
        WireError: naming the place.
    """
    try:
        with Fields(parsed(document)) as top:
            check_version(top)
            return Answer(top.take("worker", text), top.take("events", texts), top.take("ended", or_none(_ended)))
    except ShapeError as error:
        raise WireError(f"not an answer: {error}") from None


def _ended(value: object, where: str) -> Ended:
    with Fields(value, where) as fields:
        return Ended(
            kind=fields.take("kind", text),
            message=fields.take("message", text),
            hint=fields.take("hint", text),
            console=fields.take("console", texts),
        )
