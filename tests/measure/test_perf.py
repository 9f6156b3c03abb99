"""Counting with perf events: exact counts from the running kernel, and a reason for everything that is missing.

Few machines allow kprobes, most have uprobes: the same kind of PMU, counting calls of a function in a file. So the
function probed here is three bytes of code at the start of a file, and the "kprobe" PMU of a made-up /sys is the uprobe
one, which takes the file's path where a kprobe takes the function's name.
"""

import mmap
import os
import threading
from collections.abc import Callable, Iterator
from errno import EACCES, EADDRNOTAVAIL, EINVAL, EMFILE, ENODEV, ENOENT, ENOSYS
from pathlib import Path

import pytest

from kvmharness.abi.binding import ffi
from kvmharness.measure import perf
from kvmharness.measure.perf import (
    NESTED_EXITS,
    OTHER,
    ROOT_SWITCHES,
    CountingError,
    Kprobe,
    Tracepoint,
    exit_specs,
    exits_by_reason,
    open_counters,
)

UPROBE_PMU = Path("/sys/bus/event_source/devices/uprobe/type")
RETURN_7 = bytes.fromhex("b807000000c3")  # mov eax, 7; ret

uprobes = pytest.mark.skipif(
    not UPROBE_PMU.exists() or os.geteuid() != 0, reason="uprobes: needs root and CONFIG_UPROBE_EVENTS"
)


@pytest.fixture
def sysroot(tmp_path: Path) -> Path:
    """A host with tracefs, kvm's events, and uprobes in the place of kprobes."""
    put(tmp_path, "sys/bus/event_source/devices/kprobe/type", UPROBE_PMU.read_text() if UPROBE_PMU.exists() else "6\n")
    put(tmp_path, "sys/kernel/tracing/events/kvm/kvm_exit/id", "1234\n")
    put(tmp_path, "sys/kernel/tracing/events/kvm/kvm_nested_vmexit/id", "1235\n")
    put(tmp_path, "proc/sys/kernel/perf_event_paranoid", "3\n")
    return tmp_path


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.fixture
def functions(tmp_path: Path) -> Iterator[Callable[[str], tuple[Kprobe, Callable[[], int]]]]:
    """Makes functions: the spec that counts one, and the function itself."""
    mappings: list[mmap.mmap] = []

    def make(name: str) -> tuple[Kprobe, Callable[[], int]]:
        path = tmp_path / name
        path.write_bytes(RETURN_7.ljust(mmap.PAGESIZE, b"\xcc"))
        with path.open("rb") as file:
            code = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
        mappings.append(code)
        return Kprobe(str(path)), ffi.cast("int (*)(void)", ffi.from_buffer(code))

    yield make
    del make
    mappings.clear()  # unmapped when the last function pointer is gone


@uprobes
class TestCounting:
    def test_counts_exactly_between_start_and_stop(self, sysroot, functions):
        spec, function = functions("one")
        with open_counters([spec], root=str(sysroot)) as counters:
            assert counters.missing == {}
            function()
            counters.start()
            assert [function() for _ in range(5)] == [7] * 5
            assert counters.stop() == {spec.name: 5}
            function()
            assert counters.read() == {spec.name: 5}

    def test_each_pass_starts_from_zero(self, sysroot, functions):
        spec, function = functions("one")
        with open_counters([spec], root=str(sysroot)) as counters:
            for calls in (3, 2):
                counters.start()
                for _ in range(calls):
                    function()
                assert counters.stop() == {spec.name: calls}

    def test_events_count_apart_and_are_read_together(self, sysroot, functions):
        (one, first), (two, second) = functions("one"), functions("two")
        with open_counters([one, two], root=str(sysroot)) as counters:
            counters.start()
            first()
            for _ in range(4):
                second()
            assert counters.stop() == {one.name: 1, two.name: 4}
            assert counters.names == (one.name, two.name)
            assert len(counters._groups) == 1

    def test_only_the_thread_that_opened_them_counts(self, sysroot, functions):
        spec, function = functions("one")
        with open_counters([spec], root=str(sysroot)) as counters:
            counters.start()
            other = threading.Thread(target=function)
            other.start()
            other.join()
            function()
            assert counters.stop() == {spec.name: 1}

    def test_closing_leaves_no_fd_behind(self, sysroot, functions):
        spec, _ = functions("one")
        before = set(os.listdir("/proc/self/fd"))
        counters = open_counters([spec], root=str(sysroot))
        assert len(set(os.listdir("/proc/self/fd")) - before) == 1
        counters.close()
        counters.close()
        assert set(os.listdir("/proc/self/fd")) == before

    def test_an_error_while_opening_closes_what_is_open(self, sysroot, functions):
        spec, _ = functions("one")
        before = set(os.listdir("/proc/self/fd"))
        with pytest.raises(ValueError, match="two counters"):
            open_counters([spec, spec], root=str(sysroot))
        assert set(os.listdir("/proc/self/fd")) == before

    def test_what_is_missing_does_not_stop_the_others(self, sysroot, functions):
        spec, function = functions("one")
        gone = Kprobe(str(sysroot / "no such file"))
        with open_counters([gone, spec], root=str(sysroot)) as counters:
            counters.start()
            function()
            assert counters.stop() == {spec.name: 1}
            assert set(counters.missing) == {gone.name}


@pytest.mark.needs("perf", "kvm")
def test_the_running_kernels_own_tracepoints_can_be_opened():
    with open_counters(exit_specs({"HLT": 12})) as counters:
        assert counters.missing == {}
        counters.start()
        assert counters.stop() == {"kvm_exit": 0, "kvm_exit HLT": 0}


class TestMissing:
    def test_no_kprobes(self, tmp_path):
        with open_counters(ROOT_SWITCHES, root=str(tmp_path)) as counters:
            assert set(counters.missing) == {"kvm_mmu_load", "kvm_mmu_new_pgd"}
            assert "CONFIG_KPROBE_EVENTS" in counters.missing["kvm_mmu_load"]
            assert counters.stop() == {}  # and not a zero

    def test_no_tracefs(self, tmp_path):
        with open_counters([NESTED_EXITS], root=str(tmp_path)) as counters:
            assert "mount -t tracefs" in counters.missing["kvm_nested_vmexit"]

    def test_tracefs_without_the_module(self, tmp_path):
        (tmp_path / "sys/kernel/debug/tracing/events").mkdir(parents=True)
        with open_counters([NESTED_EXITS], root=str(tmp_path)) as counters:
            assert "modprobe kvm" in counters.missing["kvm_nested_vmexit"]

    @pytest.mark.parametrize(
        ("spec", "errno", "words"),
        [
            (Kprobe("kvm_mmu_load"), EACCES, ("EACCES", "CAP_PERFMON", "perf_event_paranoid is 3")),
            (Kprobe("kvm_mmu_load"), ENOENT, ("ENOENT", "no function kvm_mmu_load", "is kvm loaded?")),
            (Kprobe("kvm_mmu_load"), EADDRNOTAVAIL, ("several functions",)),
            (Kprobe("kvm_mmu_load"), EINVAL, ("cannot be probed",)),
            (Kprobe("kvm_mmu_load"), EMFILE, ("ulimit -n",)),
            (NESTED_EXITS, ENOSYS, ("CONFIG_PERF_EVENTS",)),
            (NESTED_EXITS, ENODEV, ("perf_event_open", "ENODEV")),
            (
                Tracepoint("kvm:kvm_exit", "exit_reason==12", "HLT"),
                EINVAL,
                ("does not take the filter exit_reason==12",),
            ),
        ],
    )
    def test_says_what_the_kernel_refused_and_what_to_do(self, sysroot, monkeypatch, spec, errno, words):
        def refuse(attr: object, leader: int) -> int:
            ffi.errno = errno
            return -1

        monkeypatch.setattr(perf, "_perf_event_open", refuse)
        with open_counters([spec], root=str(sysroot)) as counters:
            assert counters.names == ()
            for word in words:
                assert word in counters.missing[spec.name]


class TestExits:
    REASONS = {"HLT": 12, "VMRESUME": 24}  # noqa: RUF012

    def test_one_filtered_event_a_reason_and_the_total(self):
        assert exit_specs(self.REASONS) == (
            Tracepoint("kvm:kvm_exit"),
            Tracepoint("kvm:kvm_exit", "exit_reason==12", "kvm_exit HLT"),
            Tracepoint("kvm:kvm_exit", "exit_reason==24", "kvm_exit VMRESUME"),
        )

    def test_the_rest_is_other(self):
        counts = {"kvm_exit": 10, "kvm_exit HLT": 3, "kvm_exit VMRESUME": 5}
        assert exits_by_reason(counts, self.REASONS) == {"HLT": 3, "VMRESUME": 5, OTHER: 2}

    @pytest.mark.parametrize("lost", ["kvm_exit", "kvm_exit HLT"])
    def test_there_is_no_other_when_something_was_not_counted(self, lost):
        counts = {"kvm_exit": 10, "kvm_exit HLT": 3, "kvm_exit VMRESUME": 5}
        del counts[lost]
        found = exits_by_reason(counts, self.REASONS)
        assert OTHER not in found
        assert found["VMRESUME"] == 5


@uprobes
def test_an_event_that_did_not_count_all_the_time_is_an_error(sysroot, functions, monkeypatch):
    spec, _ = functions("one")
    with open_counters([spec], root=str(sysroot)) as counters:
        number = counters._groups[0]._events[0].number
        words = (1).to_bytes(8, "little"), (100).to_bytes(8, "little"), (60).to_bytes(8, "little"), bytes(8)
        monkeypatch.setattr(perf.os, "read", lambda fd, size: b"".join(words) if fd == number else b"")
        with pytest.raises(CountingError, match="60 of 100 ns"):
            counters.read()
