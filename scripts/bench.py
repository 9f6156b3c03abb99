"""Measures the harness side by side with a C program that is compiled on the spot, and how soon an emulated host is up.

Both sides take turns, A B B A, in many short rounds. Whatever else the machine does only ever adds time, and not to
both alike, so the figure is the ratio of the lowest deciles. Needs /dev/kvm and a C compiler. Ends with 0 when every
target is met, with 1 otherwise, and with 4 when nothing could be measured.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from textwrap import dedent

from kvmharness.abi.binding import ffi
from kvmharness.errors import ExitCode, HostRequirementError, KvmHarnessError
from kvmharness.guest import loader
from kvmharness.guest import shipped as programs
from kvmharness.guest.assembler import encode
from kvmharness.guest.build import build
from kvmharness.guest.image import Image
from kvmharness.guest.layout import MEMORY_BYTES, Place
from kvmharness.guest.runloop import RunLoop
from kvmharness.kvm.capabilities import capabilities, cpuid_table
from kvmharness.kvm.exits import HltExit, IoExit
from kvmharness.kvm.system import Kvm

ROOT = Path(__file__).resolve().parent.parent

EXITS_AT_LEAST = 0.98
LIFECYCLE_AT_MOST = 1.3
EMULATED_AT_MOST_S = 10.0


@dataclass(frozen=True)
class Result:
    """One figure against its target.

    Attributes:
        value: None when it could not be measured; `note` says why.
        met: whether the target is met, None without a value.
    """

    name: str
    value: float | None
    target: str
    met: bool | None
    ours: str = ""
    c: str = ""
    note: str = ""


class CSide:
    """The C program, kept running; it answers each request with nanoseconds."""

    def __init__(self, guest: Path, folder: Path) -> None:
        program = folder / "bench"
        source = Path(__file__).with_name("bench.c")
        subprocess.run(["cc", "-O2", "-Wall", "-o", str(program), str(source)], check=True)
        self._process = subprocess.Popen(
            [program, guest], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def __call__(self, what: str, count: int) -> float:
        """Seconds for so many of them."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what} {count}\n")
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("bench: the C program ended; what it said is above")
        return int(answer) / 1e9

    def close(self) -> None:
        """Lets it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def ticking(kvm: Kvm) -> Iterator[tuple[RunLoop, Path, Path]]:
    """A vCPU that exits as fast as it can, and the same guest as a file for the C program."""
    offered = capabilities(kvm)
    blueprint = loader.program(programs.image("tick"), offered)
    made = build(kvm, blueprint, cpuid_table(offered.cpuid), programs.run_loop())
    with made as guest, tempfile.TemporaryDirectory(prefix="kvmharness-bench-") as name:
        path = Path(name) / "guest"
        path.write_bytes(blueprint.regs + blueprint.sregs + guest.memory.read(0, MEMORY_BYTES))
        yield guest.loop, path, Path(name)


def our_exits(loop: RunLoop) -> Callable[[int], float]:
    """Seconds for so many exits through the run loop."""

    def run(count: int) -> float:
        began = time.perf_counter()
        found = loop.run(max_ticks=count)
        took = time.perf_counter() - began
        assert isinstance(found, IoExit)
        return took

    return run


def our_lifecycles(kvm: Kvm) -> Callable[[int], float]:
    """Seconds for so many VMs, from their creation over their first exit to their end."""
    header = {"in": "none", "memory": "0x0 MEMORY_BYTES everything"}
    halt = Image("halt", Place.REAL_MODE_CODE, encode("hlt", 16), {"entry": int(Place.REAL_MODE_CODE)}, header)
    blueprint = loader.real_mode(halt, capabilities(kvm))
    sregs = ffi.new("struct kvm_sregs *", {})
    regs = ffi.new("struct kvm_regs *", {})
    ffi.memmove(sregs, blueprint.sregs, len(blueprint.sregs))
    ffi.memmove(regs, blueprint.regs, len(blueprint.regs))

    def run(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            with kvm.create_vm() as vm:
                vm.add_memory(0, MEMORY_BYTES).write(halt.origin, halt.code)
                vcpu = vm.create_vcpu()
                vcpu.set_struct("KVM_SET_SREGS", sregs)
                vcpu.set_struct("KVM_SET_REGS", regs)
                if not isinstance(vcpu.run(), HltExit):
                    raise SystemExit("bench: the guest did not halt")
        return time.perf_counter() - began

    return run


def side_by_side(
    ours: Callable[[int], float], theirs: Callable[[int], float], rounds: int, seconds: float
) -> tuple[float, float, float]:
    """Seconds of one, here and in C, and ours / C, of the lowest deciles; rounds last `seconds` each, about."""
    count = 1
    while (took := theirs(count)) < seconds / 2 and count < 10_000_000:
        count = max(count * 2, int(count * seconds / 2 / max(took, 1e-9)))
    ours(count)  # warm
    own, c = [], []
    for turn in range(rounds):
        # ABBA: whichever comes second finds the caches as the first one left them.
        if turn % 2:
            c.append(theirs(count))
        own.append(ours(count))
        if not turn % 2:
            c.append(theirs(count))
    ours_s, theirs_s = (quantiles(side, n=10)[0] / count for side in (own, c))
    return ours_s, theirs_s, ours_s / theirs_s


def local(rounds: int, seconds: float) -> list[Result]:
    """What is measured on this machine's own /dev/kvm."""
    with Kvm.open() as kvm, ticking(kvm) as (loop, guest, folder):
        c_side = CSide(guest, folder)
        try:
            exits = side_by_side(our_exits(loop), lambda n: c_side("exits", n), rounds, seconds)
            lives = side_by_side(our_lifecycles(kvm), lambda n: c_side("lifecycle", n), rounds, seconds)
        finally:
            c_side.close()
        rate = 1 / exits[2]
        return [
            Result(
                f"exits per second, {'assembled' if loop.native else 'Python'} loop, against C",
                round(rate, 3),
                f">= {EXITS_AT_LEAST}",
                rate >= EXITS_AT_LEAST,
                f"{1 / exits[0]:,.0f}/s",
                f"{1 / exits[1]:,.0f}/s",
                loop.fallback_reason,
            ),
            Result(
                "VM from creation over its first exit to its end, against C",
                round(lives[2], 3),
                f"<= {LIFECYCLE_AT_MOST}",
                lives[2] <= LIFECYCLE_AT_MOST,
                f"{lives[0] * 1e6:,.0f} us",
                f"{lives[1] * 1e6:,.0f} us",
            ),
        ]


def fixtures(count: int = 300) -> list[Result]:
    """What the pytest plugin adds: one session with plain tests, tests with a VM, and tests with a small guest."""
    suite = f"""
        import pytest
        many = pytest.mark.parametrize("n", range({count}))

        @many
        def test_plain(n): pass

        @many
        def test_vm(n, vm): pass

        @many
        def test_guest(n, guest): guest("hello").run()
    """
    hook = """
        import json
        seconds = {}

        def pytest_runtest_logreport(report):
            assert not report.failed, report.longreprtext
            name = report.location[2].partition("[")[0]
            around = seconds.setdefault(name, {"around": 0.0, "all": 0.0})
            around["all"] += report.duration
            if report.when != "call":
                around["around"] += report.duration

        def pytest_unconfigure(config):
            with open("seconds", "w") as file:
                json.dump(seconds, file)
    """
    with tempfile.TemporaryDirectory(prefix="kvmharness-bench-") as name:
        folder = Path(name)
        (folder / "test_suite.py").write_text(dedent(suite))
        (folder / "conftest.py").write_text(dedent(hook))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        seconds = json.loads((folder / "seconds").read_text())
        with Kvm.open() as kvm, ticking(kvm) as (_, guest, place):
            c_side = CSide(guest, place)
            try:
                c_side("vms", count)  # warm
                c = c_side("vms", count) / count
            finally:
                c_side.close()
    ours = (seconds["test_vm"]["around"] - seconds["test_plain"]["around"]) / count
    rate = count / seconds["test_guest"]["all"]
    return [
        Result(
            "the vm fixture's set-up and tear-down, against KVM_CREATE_VM and close in C",
            round(ours / c, 3),
            "",
            None,
            f"{ours * 1e6:,.0f} us",
            f"{c * 1e6:,.0f} us",
        ),
        Result("tests a second, each with a guest of its own", round(rate), "", None),
    ]


def emulated(runs: int) -> list[Result]:
    """What an emulated host costs: a boot with one cell, and each cell more."""
    from kvmharness.cells.cell import Cell, Setup
    from kvmharness.cells.matrix import validation_matrix
    from kvmharness.cells.turn import EXECUTE, PlannedTurn
    from kvmharness.lab.events import Data, Event
    from kvmharness.lab.job import Job
    from kvmharness.lab.kernels import build as kernels
    from kvmharness.lab.machines.emulator import emulated_host
    from kvmharness.lab.steps import Call, Load
    from kvmharness.validation.campaign import EMULATED_PLAN
    from kvmharness.validation.probing import surroundings_of

    # Of the processor: seconds of the clock depend on what else the machine does.
    name, target = "emulated host, processor seconds a boot with one cell", f"<= {EMULATED_AT_MOST_S:g}"
    try:
        kernel = kernels.kernel(progress=lambda line: print(line, file=sys.stderr))
        machine = emulated_host(kernel=kernel)
        there = surroundings_of(machine, kernel.modules, [()])[()]

        def boot(cells: Sequence[Cell]) -> tuple[float, float]:
            """Seconds until the first result, and the emulator's processor seconds in all."""
            turn = PlannedTurn(cells, there, EMULATED_PLAN)
            steps = (Load("stock"), Call(EXECUTE, turn.arguments, required=True))
            began, used, results = time.perf_counter(), children_s(), []

            def listen(event: Event) -> None:
                if isinstance(event, Data) and "begins" not in event.data:
                    results.append(time.perf_counter())

            machine.run(Job(steps, modules={"stock": kernel.modules}, timeout_s=400), listen)
            if len(results) != len(cells):
                raise SystemExit(f"bench: {len(results)} results of {len(cells)} cells")
            return results[0] - began, children_s() - used

        alone = (Cell(Setup.NO_EPT, 3, 3),)
        many = [cell for cell in validation_matrix() if not cell.params]
        boot(alone)  # makes the image that the others find in the cache
        pairs = [(boot(alone), boot(many)) for _ in range(runs)]
    except HostRequirementError as e:
        return [Result(name, None, target, None, note=f"skipped: {e}; {e.hint}")]
    seconds = median(one[0] for one, _ in pairs)
    a_boot = median(one[1] for one, _ in pairs)
    a_cell = median(whole[1] - one[1] for one, whole in pairs) / (len(many) - len(alone))
    up = f"{seconds:.1f} s by the clock from its start to the cell's result"
    return [
        Result(name, round(a_boot, 2), target, a_boot <= EMULATED_AT_MOST_S, note=up),
        Result(f"emulated host, processor seconds a cell, of {len(many)} in a boot", round(a_cell, 3), "", None),
    ]


def children_s() -> float:
    """Processor seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(results: list[Result]) -> str:
    """A line a figure."""
    lines = []
    for result in results:
        word = {True: "met", False: "MISSED", None: "-"}[result.met]
        sides = f"  ({result.ours}{f' against {result.c}' if result.c else ''})" if result.ours else ""
        figure = "-" if result.value is None else f"{result.value:.3g}"
        lines.append(f"{word:6}  {figure:>6}  {result.target:7}  {result.name}{sides}")
        if result.note:
            lines.append(f"{'':25}{result.note}")
    return "\n".join(lines)


def main() -> int:
    """Measures what the options ask for, prints it, and says by the exit code whether the targets are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300, help="pairs of measurements (default 300)")
    parser.add_argument("--seconds", type=float, default=0.005, help="how long each lasts, about (default 0.005)")
    parser.add_argument("--boots", type=int, default=3, help="times the emulated host is started; 0 leaves it out")
    parser.add_argument("--json", action="store_true", help="the results as JSON")
    options = parser.parse_args()
    results: list[Result] = []
    try:
        results += local(options.rounds, options.seconds)
        results += fixtures()
    except HostRequirementError as e:
        results.append(Result("run loop and VM lifecycle", None, "", None, note=f"skipped: {e}; {e.hint}"))
    if options.boots:
        results += emulated(options.boots)
    if options.json:
        print(json.dumps([asdict(result) for result in results], indent=2))
    else:
        print(table(results))
    measured = [result for result in results if result.met is not None]
    if not measured:
        return ExitCode.SKIPPED
    return ExitCode.PASS if all(result.met for result in measured) else ExitCode.FAIL


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KvmHarnessError as e:
        sys.exit(f"bench: {e}\n{e.hint}")
