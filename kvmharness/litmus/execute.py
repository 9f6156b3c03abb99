"""Runs planned litmus tests under the kernel that is there: rows, steps, raw answers. Nothing is judged here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from kvmharness.abi.errors import met_a_limit
from kvmharness.cells.surroundings import differs
from kvmharness.errors import KvmHarnessError
from kvmharness.guest.blueprint import Blueprint
from kvmharness.guest.layout import PAGE_BYTES, Mailbox, Place, Port
from kvmharness.guest.runloop import RunLoop
from kvmharness.guest.stops import UnexpectedExit
from kvmharness.guest.watchdog import Watchdog
from kvmharness.kvm.capabilities import cpuid_table
from kvmharness.kvm.exits import Exit, IoExit, MmioExit
from kvmharness.kvm.system import Kvm
from kvmharness.litmus.host import Host
from kvmharness.litmus.protocol import END, HOST, INTERRUPT, MMIO, SWITCH, page_word

Emit = Callable[[dict[str, Any]], None]

_TIMEOUT_S = 5.0
_STATS = ("exits", "tlb_flush", "nested_run", "pf_fixed", "mmu_cache_miss")


def execute(
    emit: Emit,
    *,
    blueprints: Mapping[str, Any],
    programs: Sequence[Mapping[str, Any]],
    offered: Mapping[str, Any],
    parameters: Mapping[str, str],
    run_loop: str,
) -> None:
    """Runs tests one after the other on the machine it is called on, each in a VM of its own.

    Args:
        emit: takes ``{"begins": number}`` and then ``{"test": number, ...}`` of each test in its order: its answers, or
            why there are none; or once ``{"differs": what}`` when they were planned for another KVM.
        blueprints: kind -> the guest that tests of this kind start as.
        programs: as :meth:`kvmharness.litmus.plan.Planned.to_json` gives them.
        offered, parameters, run_loop: as for :func:`kvmharness.cells.execute.execute`.

    Raises:
        DeviceError: no /dev/kvm.
    """
    code = bytes.fromhex(run_loop) or None
    guests = {kind: Blueprint.from_json(data) for kind, data in blueprints.items()}
    with Kvm.open() as kvm:
        if what := differs(kvm, offered, parameters):
            emit({"differs": what})
            return
        cpuid = cpuid_table(bytes.fromhex(offered["cpuid"]))
        for number, program in enumerate(programs):
            emit({"begins": number})
            emit({"test": number, **run_one(kvm, guests[program["kind"]], cpuid, code, program)})


def run_one(
    kvm: Kvm, blueprint: Blueprint, cpuid: Any, code: bytes | None, program: Mapping[str, Any]
) -> dict[str, Any]:
    """Runs one test in a VM of its own; its answers, or why there are none.

    Raises:
        SystemCallError: too many files are open.
    """
    try:
        with _running(kvm, blueprint, cpuid, code, program) as run:
            run.to_end()
            return run.answers()
    except KvmHarnessError as error:
        if met_a_limit(error):
            raise
        return {"error": {"type": type(error).__name__, "message": str(error)}}


@contextmanager
def _running(
    kvm: Kvm, blueprint: Blueprint, cpuid: Any, code: bytes | None, program: Mapping[str, Any]
) -> Iterator["_Run"]:
    with Host(kvm, blueprint, cpuid) as host:
        for gpa, data in program["rows"]:
            host.write(gpa, bytes.fromhex(data))
        if program["second"]:
            host.add_second(*program["second"])
        yield _Run(host, code, program)


class _Run:
    """One test on its way."""

    def __init__(self, host: Host, code: bytes | None, program: Mapping[str, Any]) -> None:
        self._host, self._code, self._program = host, code, program
        self._steps = iter(program["host"])
        self._mmio: list[list[int]] = []  # row, gpa
        self._counts: list[dict[str, int]] = []
        self._said: list[str] = []  # what the host's steps gave

    def to_end(self) -> None:
        """Runs rows and does steps until the last one.

        Raises:
            GuestError: the guest did something else.
            IoctlError: KVM refuses something.
        """
        loop = RunLoop(self._host.vcpu, self._code)
        with Watchdog(loop, _TIMEOUT_S):
            while True:
                exit_ = loop.run()
                if isinstance(exit_, MmioExit):
                    self._serve(exit_)
                    continue
                rung = _rung(exit_)
                if rung == END:
                    return
                if rung == SWITCH:
                    self._host.switch()
                elif rung == INTERRUPT:
                    self._host.interrupt()
                elif rung == HOST:
                    self._step(*next(self._steps))
                else:
                    raise UnexpectedExit(exit_, f"a doorbell of a litmus test (mailbox: {self._error()})")
                if loop.vcpu is not self._host.vcpu:
                    loop = self._other(loop)

    def _step(self, verb: str, what: str) -> None:
        if verb == "count":
            self._counts.append(self._stats())
            self._said.append("done")
        else:
            self._said.append(self._host.step(verb, what))

    def _stats(self) -> dict[str, int]:
        stats = self._host.stats()
        return {name: stats[name] for name in _STATS if name in stats}

    def _other(self, loop: RunLoop) -> RunLoop:
        """The loop of the vCPU that is next, under the same limit of time."""
        other = RunLoop(self._host.vcpu, self._code)
        other.on_interrupted = loop.on_interrupted
        return other

    def _serve(self, exit_: MmioExit) -> None:
        """Notes which row reached where there is no memory; a read gives a tag that says so."""
        vcpu = self._host.vcpu
        row = vcpu.get_struct("KVM_GET_REGS").rbx
        self._mmio.append([row, exit_.phys_addr & ~(PAGE_BYTES - 1)])
        if not exit_.is_write:
            tag = MMIO | exit_.phys_addr // PAGE_BYTES & 0xFF_FFFF
            vcpu.set_mmio_data(page_word(tag).to_bytes(8, "little")[: len(exit_.data)])

    def _error(self) -> str:
        return self._host.read(Place.MAILBOX + Mailbox.ERROR, 8).hex()

    def answers(self) -> dict[str, Any]:
        """What came of all of it."""
        rows = [self._host.read(gpa, len(data) // 2).hex() for gpa, data in self._program["rows"]]
        return {
            "rows": rows,
            "mmio": self._mmio,
            "host": self._said,
            "stats": self._stats(),
            "counts": self._counts,
        }


def _rung(exit_: Exit) -> int:
    if isinstance(exit_, IoExit) and exit_.port == Port.DOORBELL:
        return int.from_bytes(exit_.data[:4], "little")
    raise UnexpectedExit(exit_, "a row's end")
