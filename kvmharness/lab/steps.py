"""What a job is made of: its steps as values, and as the JSON that carries them into the host under test.

Loaded inside an emulated host, so it imports next to nothing.
"""

import json
from collections.abc import Mapping, Sequence

from kvmharness.lean.dataclasses import dataclass, field

TYPE_CHECKING = False  # typing's own costs its import
if TYPE_CHECKING:
    from typing import Any


@dataclass(frozen=True, slots=True)
class Load:
    """Loads a variant's modules that suit the CPU, with nested=1.

    Attributes:
        variant: its name in :attr:`kvmharness.lab.job.Job.modules`.
        params: module parameters, ``{"kvm.tdp_mmu": "N"}``.
        required: whether the job ends, with an error, when this fails.
    """

    variant: str
    params: Mapping[str, str] = field(default_factory=dict)
    required: bool = True


@dataclass(frozen=True, slots=True)
class Unload:
    """Unloads every KVM module.

    Attributes:
        required: see :class:`Load`.
        memory: whether what the kernel holds for itself is read afterwards, which takes longer than the rest of it.
    """

    required: bool = True
    memory: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """Calls a function with an ``emit``, which takes one JSON object and sends it out, and the arguments.

    Attributes:
        function: ``package.module:name``.
        args: by name; plain JSON.
        required: see :class:`Load`.
    """

    function: str
    args: Mapping[str, object] = field(default_factory=dict)
    required: bool = False


@dataclass(frozen=True, slots=True)
class Exec:
    """Runs a program to its end.

    Attributes:
        argv: the program's path and its arguments.
        timeout_s: seconds of the host's own clock, or None for no limit.
        env: added to the environment.
        stdin: the file that is its standard input.
        required: see :class:`Load`; a program that ends with another status than 0 has not failed.
    """

    argv: tuple[str, ...]
    timeout_s: float | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: str = "/dev/null"
    required: bool = False


Step = Load | Unload | Call | Exec


@dataclass(frozen=True, slots=True)
class Exited:
    """How a program ended: the result of an :class:`Exec`.

    Attributes:
        status: its exit status, or None.
        signal: the name of the signal that ended it, or None.
        timed_out: it was killed because its time was up.
    """

    status: int | None
    signal: str | None
    timed_out: bool


_KINDS = {"load": Load, "unload": Unload, "call": Call, "exec": Exec}


def kind_of(step: Step) -> str:
    """``load``, ``unload``, ``call`` or ``exec``."""
    return type(step).__name__.lower()


def fields_of(value: object) -> dict[str, object]:
    """The fields of a dataclass's value, by name; one level of them."""
    return {name: getattr(value, name) for name in type(value).__match_args__}  # type: ignore[attr-defined]


def encode(steps: Sequence[Step]) -> bytes:
    """Steps as JSON. Raises: TypeError, for arguments that are none."""
    return json.dumps([{"do": kind_of(step), **fields_of(step)} for step in steps], sort_keys=True).encode()


def decode(text: bytes) -> tuple[Step, ...]:
    """What :func:`encode` wrote."""
    return tuple(map(_step, json.loads(text)))


def _step(row: dict[str, object]) -> Step:
    kind: Any = _KINDS[str(row.pop("do"))]
    if kind is Exec:
        row["argv"] = tuple(row["argv"])  # type: ignore[arg-type]
    made: Step = kind(**row)
    return made
