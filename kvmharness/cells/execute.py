"""Runs planned cells under the kernel that is there: ioctls, phases, raw counts and samples. Nothing is judged here.

:func:`execute` is what a job calls, on this machine or inside an emulated host. While a time is taken no counter is
even open: a disabled one leaves its kprobe in the kernel's code. So cells are counted one after the other, then the
counters are closed, then the same guests are timed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from kvmharness.abi.errors import met_a_limit
from kvmharness.cells.surroundings import differs
from kvmharness.errors import KvmHarnessError
from kvmharness.guest.blueprint import Blueprint
from kvmharness.guest.build import Guest, build
from kvmharness.guest.session import Session
from kvmharness.guest.stops import GuestFailedError
from kvmharness.kvm.capabilities import cpuid_table
from kvmharness.kvm.system import Kvm
from kvmharness.measure.perf import Counters, open_counters, spec_from_json
from kvmharness.measure.stats_fd import StatsFd

Emit = Callable[[dict[str, Any]], None]

_GROUP = 64  # cells whose VMs live at the same time, so that counters are opened once for all of them


def execute(
    emit: Emit,
    *,
    cells: Sequence[Mapping[str, Any]],
    offered: Mapping[str, Any],
    parameters: Mapping[str, str],
    counters: Sequence[Mapping[str, str]],
    run_loop: str,
    backing: Sequence[str] | None = None,
) -> None:
    """Runs cells one after the other on the machine it is called on.

    Args:
        emit: takes, for each cell in its order, ``{"cell": number, ...}`` with what came of it, and before each of its
            passes ``{"begins": number, "doing": which}``; or once ``{"differs":
            what}`` when the cells were planned for another KVM than this one: then nothing was run.
        cells: as :meth:`kvmharness.cells.plan.Planned.to_json` gives them.
        offered: what the cells were planned for: :meth:`kvmharness.kvm.capabilities.Capabilities.to_json`.
        parameters: and the parameters of KVM's modules there.
        counters: what to count, as :func:`kvmharness.measure.perf.spec_to_json` gives it.
        run_loop: the assembled run loop in hexadecimal; empty for Python's.
        backing: on a real host, of the guests' memory (see :class:`kvmharness.kvm.memory.Memory`); each result
            then says when its timing pass began.

    Raises:
        DeviceError: no /dev/kvm.
    """
    specs = [spec_from_json(spec) for spec in counters]
    with Kvm.open() as kvm:
        if what := differs(kvm, offered, parameters):
            emit({"differs": what})
            return
        cpuid, code = cpuid_table(bytes.fromhex(offered["cpuid"])), bytes.fromhex(run_loop) or None
        for first in range(0, len(cells), _GROUP):
            attempts = [
                _Attempt(number, cells[number], real=backing is not None)
                for number in range(first, min(first + _GROUP, len(cells)))
            ]
            _run(attempts, lambda blueprint: build(kvm, blueprint, cpuid, code, backing), specs, emit)


class _Attempt:
    """One cell on its way.

    Attributes:
        raw: what came of it so far.
        alive: nothing has gone wrong yet.
    """

    def __init__(self, number: int, planned: Mapping[str, Any], *, real: bool = False) -> None:
        self._real = real
        self.raw: dict[str, Any] = {"cell": number}
        self.alive = True
        self.blueprint = Blueprint.from_json(planned["blueprint"])
        self._flags = planned["flags"]
        self._warmup, self._counted, self._batches, self._batch, self._timeout_s = planned["passes"]
        self._session: Session | None = None

    def count(self, guest: Guest, counters: Counters) -> None:
        """The warm-up, then the counting pass: what the counters and KVM's statistics gained over its round trips."""
        self._session = session = Session(guest.loop, guest.memory, timeout_s=self._timeout_s)
        session.phase(1, self._warmup, self._flags)
        stats = StatsFd(guest.vcpu.get_stats_fd()), StatsFd(guest.vm.get_stats_fd())
        before: list[Any] = []
        after: list[Any] = []

        def begin() -> None:
            before.extend(each.read() for each in stats)
            counters.start()

        def end() -> None:
            counters.disable()
            after.extend(each.read() for each in stats)

        session.phase(1, self._counted, self._flags, on_begin=begin, on_end=end)
        gained: dict[str, int] = {}
        for each, first, last in zip(stats, before, after, strict=True):
            gained |= each.delta(first, last)
        self.raw["counts"], self.raw["missing"], self.raw["stats"] = counters.read(), counters.missing, gained

    def time(self) -> None:
        """The timing pass, after one batch to warm up again: other guests have run since."""
        session = self._session
        assert session is not None
        session.phase(1, self._batch, self._flags)
        if self._real:
            self.raw["began_s"] = round(time.monotonic(), 6)
        self.raw["samples"] = list(session.phase(self._batches, self._batch, self._flags))
        self.raw["round_trips"] = session.round_trips
        session.finish()

    def attempt(self, act: Callable[[], None]) -> None:
        """Does a step, unless an earlier one failed; whatever goes wrong is in the raw result.

        Raises:
            SystemCallError: too many files are open.
        """
        if not self.alive:
            return
        try:
            act()
        except GuestFailedError as e:
            self._end({"mailbox": e.mailbox.hex()})
        except KvmHarnessError as e:
            if met_a_limit(e):
                raise
            self._end({"error": {"type": type(e).__name__, "message": str(e)}})

    def _end(self, how: dict[str, Any]) -> None:
        """Figures of a guest that failed later are not figures."""
        self.raw = {"cell": self.raw["cell"], **how}
        self.alive = False


def _count(each: _Attempt, make: Callable[[Blueprint], Any], guests: ExitStack, counters: Counters) -> None:
    each.count(guests.enter_context(make(each.blueprint)), counters)


def _run(attempts: Sequence[_Attempt], make: Callable[[Blueprint], Any], specs: Sequence[Any], emit: Emit) -> None:
    """Says which cell it begins with before each: what the kernel says, or dies of, is that one's."""
    with ExitStack() as guests:
        with open_counters(specs) as counters:
            for each in attempts:
                emit({"begins": each.raw["cell"], "doing": "counting"})
                each.attempt(partial(_count, each, make, guests, counters))
        for each in attempts:
            emit({"begins": each.raw["cell"], "doing": "timing"})
            each.attempt(each.time)
            emit(each.raw)
