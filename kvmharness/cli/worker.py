"""worker: this machine does jobs for a fleet, until it is interrupted."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kvmharness.cli import options as shared
from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import Output
from kvmharness.errors import ExitCode

if TYPE_CHECKING:
    from kvmharness.fleet.place import Scheduler

_CORES_MAX = 1024


def add(verbs: Verbs) -> None:  # type: ignore[valid-type]
    """Registers the verb."""
    made = verb(
        verbs,
        "worker",
        read,
        act,
        "do jobs for a fleet on this machine, until Ctrl-C",
        "The fleet's scheduler is Dask's own: `dask scheduler`. Who holds the fleet's certificates can run programs "
        "here as this user: they are worth an account.",
        examples=("kvmharness worker tcp://127.0.0.1:8786", "kvmharness worker tcp://127.0.0.1:8786 --cores 1"),
    )
    made.add_argument("address", metavar="ADDRESS", help="of the scheduler: tls://HOST:8786, or tcp://127.0.0.1:8786")
    shared.add_tls_option(made)
    made.add_argument("--name", default=os.uname().nodename, help="what this machine is called")
    made.add_argument(
        "--cores",
        metavar="N",
        type=shared.number(_CORES_MAX),
        help="how many emulated hosts may be at work at the same time; by default as many as there are cores",
    )


@dataclass(frozen=True, slots=True)
class Request:
    """A worker to be.

    Attributes:
        scheduler: whose jobs to do.
        name: what to be called.
        cores: emulated hosts at a time.
    """

    scheduler: "Scheduler"
    name: str
    cores: int | None


def read(options: argparse.Namespace) -> Request:
    """What is asked for.

    Raises:
        UsageError: no such address, or certificates are missing.
    """
    from kvmharness.fleet.place import Scheduler

    tls = Path(options.tls) if options.tls else None
    return Request(Scheduler(options.address, tls), options.name, options.cores)


def act(request: Request, output: Output) -> int:
    """Does jobs."""
    from kvmharness.fleet.worker import serve

    serve(request.scheduler, request.name, request.cores, output.say)
    return ExitCode.PASS
