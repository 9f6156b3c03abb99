"""The client's side: a fleet that is connected to, and jobs that are had done by its machines.

A job is the same bytes wherever it is done, so one that is lost with its worker is done again by another; Dask sees to
that, and when the scheduler itself is gone we do.
"""

import time
import uuid
from functools import partial
from threading import Lock
from typing import Any

from kvmharness.errors import HostRequirementError, LostMachineError
from kvmharness.fleet.answers import Answer, read_answer
from kvmharness.fleet.machine import FleetMachine
from kvmharness.fleet.place import Scheduler
from kvmharness.fleet.tags import EMULATOR, Tags, own_image
from kvmharness.fleet.wire import Files, Order, write_order
from kvmharness.fleet.worker import TAGS, do
from kvmharness.hosts.catalogue import EmulatedHost
from kvmharness.lab.kernels.build import Kernel
from kvmharness.lab.machines.emulator import EmulatedMachine
from kvmharness.lab.machines.emulator import emulated_host as emulated_machine
from kvmharness.lab.machines.supervisor import STOPPED
from kvmharness.results.jsonread import ShapeError

_CONNECT_S = 20.0
_BACK_S = 120.0  # that a scheduler may be away, or the last worker that could do a job
_POLL_S = 0.1
_LOOK_S = 5.0
_ATTEMPTS = 3


class _AwayError(LostMachineError):
    """The scheduler is not there, or does not know the job any more."""

    def __init__(self) -> None:
        super().__init__("the fleet's scheduler went away")


class Fleet:
    """A fleet that is connected to.

    Args:
        scheduler: where.

    Raises:
        LostMachineError: there is no scheduler.
        UsageError: it and we do not take each other's certificates.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._lock = Lock()
        self._files: dict[str, Any] = {}  # futures of contents, by their hash
        self._client = self._connected()

    def close(self) -> None:
        """Ends the connection; jobs that are not done are forgotten."""
        self._client.close(timeout=5)

    def wait_for(self, workers: int) -> None:
        """Waits until so many machines are there.

        Raises:
            LostMachineError: they do not come.
        """
        deadline = time.monotonic() + _BACK_S
        while len(self.workers()) < workers:
            if time.monotonic() > deadline:
                raise LostMachineError(f"of {workers} machines of the fleet {len(self.workers())} have come")
            time.sleep(_POLL_S)

    def __str__(self) -> str:
        """Who is there, and where Dask shows what goes on."""
        workers = self.workers()
        there = ", ".join(tags.name for tags in workers) or "no machine yet"
        cores = sum(tags.cores for tags in workers)
        where = self._client.dashboard_link
        return f"fleet: {there}; {cores} emulated hosts at a time{where and f'; {where}'}"

    def workers(self) -> tuple[Tags, ...]:
        """The machines that are there; a worker that says what it must not is none."""
        found: list[Tags] = []
        for worker in self._info().values():
            try:
                found.append(Tags.from_json(worker.get(TAGS)))
            except ShapeError:
                continue
        return tuple(sorted(found, key=lambda tags: tags.name))

    def machine(self, host: EmulatedHost, kernel: Kernel, *, snapshot: bool) -> FleetMachine:
        """What does jobs in an emulated host, on whichever machine of the fleet.

        Args:
            host: of the catalogue.
            kernel: what it boots.
            snapshot: whether it may be restored.

        Raises:
            HostRequirementError: no machine of the fleet can do that as it would be done here.
        """
        offers = self._offers(host)
        here = emulated_machine(host.name, kernel)
        assert isinstance(here, EmulatedMachine)
        first, cores = offers[0], sum(tags.cores for tags in offers)
        do = partial(self.do, resource=first.resource(host.name))
        return FleetMachine(do, kernel, here, snapshot, first.emulated[host.name], cores)

    def _offers(self, host: EmulatedHost) -> tuple[Tags, ...]:
        """The workers on which its jobs give the same as on the first one; of several kinds the most cores."""
        workers = self._first_workers()
        groups: dict[str, list[Tags]] = {}
        for tags in workers:
            if host.name in tags.emulated and tags.image == own_image():
                groups.setdefault(tags.resource(host.name), []).append(tags)
        if not groups:
            raise HostRequirementError(
                f"no machine of the fleet has the emulated host {host.name} with this version of the tool",
                "; ".join(f"{tags.name}: {_why_not(tags, host)}" for tags in workers)
                or "there is no worker; start one: kvmharness worker ADDRESS",
            )
        return tuple(max(groups.values(), key=lambda group: sum(tags.cores for tags in group)))

    def _first_workers(self) -> tuple[Tags, ...]:
        """The machines that are there; where none is yet, it may be on its way."""
        deadline = time.monotonic() + _CONNECT_S
        while not (workers := self.workers()) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return workers

    def do(self, order: Order, files: Files, resource: str) -> Answer:
        """Has a job done, wherever there is *resource*.

        Raises:
            LostMachineError: no machine was left to do it, or it was lost with each one that tried.
            WireError: what came back is no answer.
        """
        document = write_order(order)
        for attempt in range(_ATTEMPTS):
            try:
                return read_answer(self._attempt(document, order, files, resource))
            except _AwayError:
                if attempt + 1 < _ATTEMPTS:
                    self._wait_for_scheduler()
        raise LostMachineError("the fleet's scheduler went away each time that it had this job")

    def _attempt(self, document: str, order: Order, files: Files, resource: str) -> object:
        from distributed.client import FutureCancelledError
        from distributed.comm.core import CommClosedError
        from distributed.scheduler import KilledWorker

        away = (FutureCancelledError, CommClosedError, OSError)
        future = None
        try:
            taken = [self._file(name, files[name]) for name in order.hashes]
            future = self._client.submit(
                do, document, *taken, key=f"job-{uuid.uuid4()}", resources={EMULATOR: 1, resource: 1}, pure=False
            )
            self._wait(future, resource)
            return future.result(timeout=_CONNECT_S)
        except KilledWorker as error:
            raise LostMachineError(
                f"lost: each machine that tried this job died of it, {error.last_worker.name} last"
            ) from error
        except away as error:
            raise _AwayError() from error
        except BaseException:
            if future is not None:
                future.cancel(force=True)
            raise

    def _file(self, name: str, data: bytes) -> Any:
        """A content on its way to workers, once for all jobs; Dask makes it again should its only holder die."""
        with self._lock:
            future = self._files.get(name)
            if future is None or future.cancelled():
                future = self._client.submit(bytes, data, key=f"file-{name}")
                self._files[name] = future
            return future

    def _wait(self, future: Any, resource: str) -> None:
        looked = seen = time.monotonic()
        while not future.done():
            if STOPPED.get()():
                raise LostMachineError("the fleet's job was stopped")
            time.sleep(_POLL_S)
            now = time.monotonic()
            if now - looked < _LOOK_S:
                continue
            looked = now
            if any(resource in (worker.get("resources") or ()) for worker in self._info().values()):
                seen = now
            elif now - seen > _BACK_S:
                raise LostMachineError(
                    f"lost: for {_BACK_S:g} s no machine of the fleet could do this job", "Start its worker again."
                )

    def _info(self) -> dict[str, Any]:
        try:
            return dict(self._client.scheduler_info(n_workers=-1)["workers"])
        except (OSError, ValueError) as error:
            raise _AwayError() from error

    def _wait_for_scheduler(self) -> None:
        deadline = time.monotonic() + _BACK_S
        with self._lock:
            while True:
                try:
                    if self._client.status == "running":
                        self._client.scheduler_info(n_workers=0)
                        return
                    self._client = self._connected()
                    self._files.clear()
                    return
                except (OSError, ValueError, LostMachineError) as error:
                    if time.monotonic() > deadline or STOPPED.get()():
                        raise LostMachineError(
                            f"lost: the fleet's scheduler {self._scheduler.address} did not come back", str(error)
                        ) from error
                    time.sleep(1.0)

    def _connected(self) -> Any:
        from distributed.client import Client

        try:
            return Client(
                self._scheduler.address,
                security=self._scheduler.security(),
                timeout=_CONNECT_S,
                set_as_default=False,
                name="kvmharness",
            )
        except (OSError, ValueError) as error:
            if refused := self._scheduler.refused(error):
                raise refused from None
            raise LostMachineError(
                f"no scheduler answers at {self._scheduler.address}: {error}",
                "Start one: dask scheduler; and a worker on each machine: kvmharness worker ADDRESS.",
            ) from error


def _why_not(tags: Tags, host: EmulatedHost) -> str:
    if host.name not in tags.emulated:
        return f"{host.emulator.title} is not installed"
    return f"version {tags.version} of the tool, or Python, is another one"
