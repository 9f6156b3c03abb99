"""A machine of a fleet at work: a Dask worker with what this machine has, and the one task that it does.

Nobody's objects are unpickled for a job: the task takes a JSON text and files as bytes, checks both, and does the job
in a child process with a time limit. Whoever holds the fleet's certificates can nevertheless have Dask run anything as
the worker's user: they are worth as much as an account on the machine.
"""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kvmharness.errors import KvmHarnessError, LostMachineError
from kvmharness.fleet import child
from kvmharness.fleet.answers import Answer, Ended, read_ended, write_answer
from kvmharness.fleet.place import Scheduler
from kvmharness.fleet.tags import Tags, own_tags
from kvmharness.fleet.wire import Order, WireError, hash_of, read_order
from kvmharness.lab.jobrun import MAX_JOB_BYTES
from kvmharness.system.programs import die_with_parent
from kvmharness.system.scratch import temporary_folder

TAGS = "kvmharness"
"""Where a worker's tags stand in what Dask says of it."""

# A job's own limit is kept by whoever does it. The child has more time, as the first job may have a host saved.
_MORE_S = 900.0
_POLL_S = 0.1
_ANSWER_S = 5.0
_SAID_BYTES = 4000


def do(document: str, *files: bytes) -> str:
    """The task: does a job; gives its answer as JSON.

    Args:
        document: see :func:`kvmharness.fleet.wire.write_order`.
        files: what it takes, in the order of their hashes.
    """
    name, cancelled = _task()
    try:
        order = read_order(document)
        _check(order, files)
        events, ended = _done(order, document, files, cancelled)
    except KvmHarnessError as error:
        events, ended = (), Ended(type(error).__name__, str(error), error.hint)
    return write_answer(Answer(name, events, ended))


def _check(order: Order, files: tuple[bytes, ...]) -> None:
    """Raises: WireError, for what is not to be done here."""
    if len(files) != len(order.hashes):
        raise WireError(f"a job that takes {len(order.hashes)} files came with {len(files)}")
    for name, data in zip(order.hashes, files, strict=True):
        if not isinstance(data, bytes) or hash_of(data) != name:
            raise WireError(f"a file is not what its hash {name[:16]}... says")


def _task() -> tuple[str, Callable[[], bool]]:
    """What the worker is called that this thread's task runs in, and what says that it is not wanted any more."""
    from distributed.worker import get_worker, thread_state

    try:
        worker, key = get_worker(), thread_state.key
    except (ValueError, AttributeError):  # not in a worker
        return "", lambda: False

    def cancelled() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state != "executing"

    return str(worker.name), cancelled


def _done(
    order: Order, document: str, files: tuple[bytes, ...], cancelled: Callable[[], bool]
) -> tuple[tuple[str, ...], Ended | None]:
    """A job's events, and how it ended if not by itself."""
    with temporary_folder("job") as folder:
        (folder / child.ORDER).write_text(document)
        for name, data in zip(order.hashes, files, strict=True):
            (folder / name).write_bytes(data)
        argv = [*die_with_parent(), sys.executable, "-P", "-m", child.__name__, str(folder)]
        with (folder / "said").open("wb") as said:
            quiet = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": said}
            process = subprocess.Popen(argv, start_new_session=True, **quiet)  # type: ignore[call-overload]
            why = _wait(process, order.timeout_s + _MORE_S, cancelled)
        return _outcome(folder, why)


def _wait(process: "subprocess.Popen[bytes]", timeout_s: float, cancelled: Callable[[], bool]) -> str:
    """Waits for a child, and ends it when it is not to go on; why it gave no answer, empty when it has."""
    deadline = time.monotonic() + timeout_s
    try:
        while process.poll() is None:
            if cancelled():
                return "not wanted any more"
            if time.monotonic() > deadline:
                return f"not done after {timeout_s:g} s"
            time.sleep(_POLL_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        return f"the process that did it ended with status {process.returncode}"
    return ""


def _outcome(folder: Path, why: str) -> tuple[tuple[str, ...], Ended | None]:
    events, ended = folder / child.EVENTS, folder / child.ENDED
    if events.exists() and events.stat().st_size > MAX_JOB_BYTES:
        why = f"more than {MAX_JOB_BYTES} bytes of events"
    if why:
        said = (folder / "said").read_bytes()[-_SAID_BYTES:].decode(errors="replace").strip()
        return (), Ended(LostMachineError.__name__, why, said)
    how = read_ended(ended.read_bytes()) if ended.exists() else None
    return tuple(events.read_text().splitlines()), how


async def _answers(scheduler: Scheduler) -> None:
    """Whether a worker need try at all. Raises: OSError, nobody answers; UsageError, somebody else does."""
    from distributed.comm import connect

    security = scheduler.security()
    how = security.get_connection_args("worker") if security else {}
    try:
        comm = await connect(scheduler.address, timeout=_ANSWER_S, **how)
    except OSError as error:
        if refused := scheduler.refused(error):
            raise refused from None
        raise
    comm.abort()


def serve(scheduler: Scheduler, name: str, cores: int | None, say: Callable[[str], None]) -> None:
    """Does jobs until it is interrupted; a scheduler that goes away is waited for.

    Args:
        scheduler: whose jobs.
        name: what the machine is called, in messages and in records.
        cores: see :func:`kvmharness.fleet.tags.own_tags`.
        say: takes what is going on.

    Raises:
        UsageError: the scheduler and this machine do not take each other's certificates.
        KeyboardInterrupt: as it comes.
    """
    tags = own_tags(name, cores)
    told = ""
    while True:
        try:
            asyncio.run(_serve(scheduler, tags, say))
            told = ""
        except OSError as error:
            if (line := f"no scheduler answers at {scheduler.address}, trying again: {error}") != told:
                say(line)
            told = line
        time.sleep(1.0)


async def _serve(scheduler: Scheduler, tags: Tags, say: Callable[[str], None]) -> None:
    from distributed.worker import Worker

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    await _answers(scheduler)
    listen = {"host": "127.0.0.1"} if scheduler.on_loopback else {}
    with temporary_folder("worker") as folder:
        worker = Worker(
            scheduler.address,
            nthreads=tags.cores + 1,
            name=tags.name,
            resources=tags.resources(),
            startup_information={TAGS: lambda worker: tags.to_json()},
            security=scheduler.security(),
            local_directory=str(folder),
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            death_timeout=30,
            **listen,
        )
        try:
            async with worker:
                say(f"{tags.name}: at work for {scheduler.address}: {', '.join(tags.emulated) or 'no emulated host'}")
                await worker.finished()
        except (TimeoutError, ValueError) as error:
            raise OSError(str(error) or "no answer") from error
    say(f"{tags.name}: the scheduler is gone")
