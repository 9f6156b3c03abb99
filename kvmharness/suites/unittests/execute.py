"""Runs one unit test under the kernel that is there: its output, and how it ended. Nothing is judged here.

Each vCPU has a thread, which runs it until the test is over. The thread that was called says now and then that the test
goes on, and sees to it that it does not take all of the host's memory.
"""

import os
from _signal import pthread_kill  # type: ignore[import-not-found]  # the door to it costs its import
from _thread import allocate_lock, get_ident, start_new_thread
from collections.abc import Callable, Mapping
from errno import EAGAIN
from time import monotonic
from typing import Any

from kvmharness.abi.errors import IoctlError
from kvmharness.guest.serialloop import SerialLoop, coalesce, printing
from kvmharness.guest.watchdog import SIGNAL, GuestHungError, Watchdog
from kvmharness.kvm.exits import Exit, FailEntryExit, InternalErrorExit, IoExit, MmioExit, ShutdownExit
from kvmharness.kvm.system import Kvm
from kvmharness.kvm.vcpu import Vcpu
from kvmharness.suites.unittests.devices import Devices
from kvmharness.suites.unittests.vmm import Vmm
from kvmharness.vendors.names import VMX

Emit = Callable[[dict[str, Any]], None]

_BATCH_BYTES = 256
_BATCH_S = 0.1
_ALIVE_S = 5.0
_LOOK_S = 0.5
_SPARE_KB = 48 << 10
_KICK_S = 0.1
_LEFT_OUT = bytes({*range(32), 127} - {9, 10})  # control characters, what sets the port's speed among them


def execute(emit: Emit, **wanted: Any) -> None:
    """Runs a test.

    Args:
        emit: takes ``{"output": text}`` as lines come, ``{"alive": seconds}`` now and then, and at the end
            ``{"ended": how, ...}`` with ``seconds``, ``bytes`` and ``states`` of vCPUs that were stopped; *how* is

            - "exit" with ``code``, "shutdown", "internal" with ``why``: what the guest did,
            - "timeout", "flood" with ``limit``, "memory" with ``why``: what it was stopped for,
            - "skip" with ``why``: it was not begun.
        wanted: what :meth:`kvmharness.suites.unittests.entry.UnitTest.step` gives.

    Raises:
        DeviceError: no /dev/kvm.
        IoctlError, SystemCallError: the VM cannot be made, or not be run.
    """
    if why := _cannot(wanted):
        emit({"ended": "skip", "why": why, "seconds": 0.0, "bytes": 0, "states": []})
        return
    if wanted["emulated"]:
        for test, why in wanted["left_out"]:
            wanted["args"] += f" -{test}"
            emit({"output": f"SKIP: {test}: {why}\n"})
    with Kvm.open() as kvm, Vmm(kvm, wanted) as vmm:
        _Run(emit, vmm, wanted).to_end()


def _cannot(wanted: Mapping[str, Any]) -> str:
    """Why the test cannot run on this host; empty when it can."""
    for path, value in wanted["checks"]:
        found = _said_by(path)
        if found != value:
            return f"{path} is not {value}: " + ("it says " + found if found else "there is none")
    # Bochs takes no interrupt of the host's while a guest's IF is 0: the host, its clock and its other threads stand.
    if wanted["emulated"] and os.path.isdir(f"/sys/module/{VMX.module}"):
        if wanted["smp"] > 1:
            return (
                f"{wanted['smp']} vCPUs: in Bochs one that waits with IF=0 for another one keeps the host from running"
            )
        if wanted["without_interrupts"]:
            return "in Bochs a guest that computes with IF=0 keeps the host from running"
    return ""


def _said_by(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


class _Run:
    """A test on its way."""

    def __init__(self, emit: Emit, vmm: Vmm, wanted: Mapping[str, Any]) -> None:
        self._emit, self._vmm = emit, vmm
        self._code = bytes.fromhex(wanted["serial_loop"]) or None
        self._timeout_s, self._bytes_max = float(wanted["timeout_s"]), int(wanted["bytes_max"])
        self._devices = Devices(vmm)
        self._coalesced = coalesce(vmm.vm)
        self._lock = allocate_lock()  # of what stands below
        self._text: list[bytes] = []
        self._bytes = self._unsaid = 0
        self._said_at = self._began = monotonic()
        self._end: dict[str, Any] = {}
        self._error: BaseException | None = None
        self._over = allocate_lock()  # held until the test is over
        self._over.acquire()
        self._running: set[int] = set()
        self._states: dict[int, str] = {}  # of the vCPUs that had to be stopped, by their number

    def to_end(self) -> None:
        """Runs all vCPUs until the test is over."""
        started = [allocate_lock() for _ in self._vmm.vcpus]
        for vcpu, lock in zip(self._vmm.vcpus, started, strict=True):
            lock.acquire()
            start_new_thread(self._thread, (vcpu, lock))
        try:
            self._watch()
        finally:
            self._stop()
            for lock in started:
                while not lock.acquire(timeout=_KICK_S):
                    self._stop()
        self._say()
        if self._error is not None:
            raise self._error
        states = [f"vCPU {number} was {state}" for number, state in sorted(self._states.items())]
        seconds = round(monotonic() - self._began, 3)
        self._emit({**self._end, "seconds": seconds, "bytes": self._bytes, "states": states})

    def _watch(self) -> None:
        alive_at = self._began
        while not self._over.acquire(timeout=_LOOK_S):
            if monotonic() - alive_at >= _ALIVE_S:
                alive_at = monotonic()
                with self._lock:
                    self._emit({"alive": round(alive_at - self._began, 1)})
            if (free := _free_kb()) < _SPARE_KB:
                self._finish({"ended": "memory", "why": f"of the host's memory only {free >> 10} MB are left"})

    def _stop(self) -> None:
        """Has every thread leave KVM_RUN, now or when it next enters it."""
        self._finish({"ended": "stopped"})
        with self._lock:
            for thread in self._running:
                pthread_kill(thread, SIGNAL)

    def _finish(self, end: dict[str, Any]) -> None:
        """The test is over; the first who says so says how."""
        with self._lock:
            if not self._end:
                self._end = end
                self._over.release()

    def _thread(self, vcpu: Vcpu, finished: Any) -> None:
        loop = SerialLoop(vcpu, self._code, coalesced=self._coalesced)
        try:
            with Watchdog(loop, self._timeout_s):
                with self._lock:
                    self._running.add(get_ident())
                try:
                    while not self._end:
                        self._serve(loop)
                finally:
                    with self._lock:
                        self._running.discard(get_ident())
        except GuestHungError as hung:  # also when it is told to stop
            self._states[vcpu.id] = hung.state
            self._finish({"ended": "timeout"})
        except BaseException as error:
            self._error = self._error or error
            self._finish({"ended": "stopped"})
        finally:
            self._take(loop)
            finished.release()

    def _serve(self, loop: SerialLoop) -> None:
        """Runs a vCPU to its next exit, and answers that."""
        try:
            exit_ = loop.run()
        except IoctlError as error:
            if error.errno != EAGAIN:  # which a vCPU that has waited for INIT or SIPI comes back with
                raise
            return
        if printing(exit_):
            self._take(loop)
        elif isinstance(exit_, IoExit):
            if (code := self._devices.port(loop.vcpu, exit_)) is not None:
                self._finish({"ended": "exit", "code": code})
        elif isinstance(exit_, MmioExit):
            self._devices.memory(loop.vcpu, exit_)
        elif isinstance(exit_, ShutdownExit):
            self._finish({"ended": "shutdown"})
        else:
            self._finish({"ended": "internal", "why": _told(exit_)})

    def _take(self, loop: SerialLoop) -> None:
        with self._lock:
            if not (printed := loop.printed()):
                return
            self._text.append(printed)
            self._bytes += len(printed)
            self._unsaid += len(printed)
            if self._unsaid >= _BATCH_BYTES or monotonic() - self._said_at >= _BATCH_S:
                self._say()
        if self._bytes > self._bytes_max:
            self._finish({"ended": "flood", "limit": self._bytes_max})

    def _say(self) -> None:
        if self._text:
            text = b"".join(self._text).translate(None, _LEFT_OUT).decode("utf-8", "replace")
            self._text.clear()
            self._unsaid, self._said_at = 0, monotonic()
            self._emit({"output": text})


def _told(exit_: Exit) -> str:
    """An exit after which a guest cannot go on, without what changes from run to run."""
    if isinstance(exit_, InternalErrorExit):
        return f"KVM internal error {exit_.kind}"
    if isinstance(exit_, FailEntryExit):
        return f"the processor refused to enter the guest: reason {exit_.hardware_entry_failure_reason:#x}"
    return f"an exit that no test has: {type(exit_).__name__}"


def _free_kb() -> int:
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1])
    return 1 << 40
