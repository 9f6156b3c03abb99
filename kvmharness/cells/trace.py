"""Runs one planned cell with ftrace around its last round trips: what KVM did in them, as the kernel wrote it down."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kvmharness.cells.surroundings import differs
from kvmharness.errors import KvmHarnessError
from kvmharness.guest.blueprint import Blueprint
from kvmharness.guest.build import build
from kvmharness.guest.session import Session
from kvmharness.guest.stops import GuestFailedError
from kvmharness.kvm.capabilities import cpuid_table
from kvmharness.kvm.system import Kvm
from kvmharness.measure.ftrace import Ftrace

_LINES = 2000  # in an event
_SLOWER = 10  # than without a trace, at the most


def trace(
    emit: Callable[[dict[str, Any]], None],
    *,
    cell: Mapping[str, Any],
    passes: Sequence[int],
    modules: Sequence[str],
    offered: Mapping[str, Any],
    parameters: Mapping[str, str],
    run_loop: str,
) -> None:
    """Runs a cell on the machine it is called on.

    A guest that fails is traced up to its end.

    Args:
        emit: takes ``{"lines": [...]}`` as often as it needs, then ``{"passes": number, "failed": how, "lacking":
            why}``: how many passes had begun, of which the last one is traced; null, or what
            :class:`kvmharness.cells.judge.Raw` reads of a cell that failed; and what the trace lacks, or an empty
            string. Or once ``{"differs": what}``.
        cell: as :meth:`kvmharness.cells.plan.Planned.to_json` gives it.
        passes: their round trips.
        modules: whose functions are traced; none for tracepoints alone.
        offered, parameters, run_loop: as for :func:`kvmharness.cells.execute.execute`.

    Raises:
        DeviceError: no /dev/kvm.
        HostRequirementError: no tracefs.
    """
    with Kvm.open() as kvm:
        if what := differs(kvm, offered, parameters):
            emit({"differs": what})
            return
        cpuid, code = cpuid_table(bytes.fromhex(offered["cpuid"])), bytes.fromhex(run_loop) or None
        with build(kvm, Blueprint.from_json(cell["blueprint"]), cpuid, code) as guest, Ftrace(tuple(modules)) as ftrace:
            session = Session(guest.loop, guest.memory, timeout_s=cell["passes"][-1] * _SLOWER)
            begun = 0
            failed: dict[str, Any] | None = None
            try:
                for length in passes:
                    begun += 1
                    ftrace.start()
                    session.phase(1, length, cell["flags"])
            except GuestFailedError as e:
                failed = {"cell": 0, "mailbox": e.mailbox.hex()}
            except KvmHarnessError as e:
                failed = {"cell": 0, "error": {"type": type(e).__name__, "message": str(e)}}
            ftrace.stop()
            _emit_lines(emit, list(ftrace.lines()))
            emit({"passes": begun, "failed": failed, "lacking": ftrace.lacking})


def _emit_lines(emit: Callable[[dict[str, Any]], None], lines: Sequence[str]) -> None:
    for first in range(0, len(lines), _LINES):
        emit({"lines": lines[first : first + _LINES]})
