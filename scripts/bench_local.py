"""Measures the harness on this machine's own /dev/kvm, side by side with a C program that is compiled on the spot.

Both sides take turns, A B B A, in many short rounds. Whatever else the machine does only ever adds time, and not to
both alike, so the figure is the ratio of the lowest deciles.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from textwrap import dedent

from bench_figures import Result

from kvmharness.abi.binding import ffi
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

EXITS_AT_LEAST = 0.98
LIFECYCLE_AT_MOST = 1.3


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
