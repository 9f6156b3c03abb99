"""KVM's statistics: blobs built here from the kernel's documentation, good and bad, and those of a real VM."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import pack

import pytest

from kvmharness.abi.binding import IOCTLS, SYSTEM, VCPU, VM, ffi, ioctl, lib, open_file
from kvmharness.abi.constants import StatsBase, StatsType, StatsUnit
from kvmharness.kvm.resources import FdHolder
from kvmharness.measure.stats_fd import StatsError, StatsFd

NAME_BYTES = 48
HEADER_BYTES = 24

# api.rst, "KVM_GET_STATS_FD"
CUMULATIVE, INSTANT, PEAK, LINEAR_HIST, LOG_HIST = range(5)
BYTES, SECONDS = 1 << 4, 2 << 4
POW2 = 1 << 8


def name(text: str) -> bytes:
    return text.encode().ljust(NAME_BYTES, b"\0")


def stat(text: str, flags: int, offset: int, *, exponent: int = 0, size: int = 1, bucket: int = 0) -> bytes:
    return pack("<IhHII", flags, exponent, size, offset, bucket) + name(text)


def blob(*stats: bytes, values: tuple[int, ...], **offsets: int) -> bytes:
    """A statistics file: header, id, descriptors, data; single offsets can be made wrong."""
    descriptors = b"".join(stats)
    id_offset = offsets.get("id_offset", HEADER_BYTES)
    desc_offset = offsets.get("desc_offset", HEADER_BYTES + NAME_BYTES)
    data_offset = offsets.get("data_offset", HEADER_BYTES + NAME_BYTES + len(descriptors))
    header = pack("<6I", 0, NAME_BYTES, len(stats), id_offset, desc_offset, data_offset)
    return header + name("kvm-42/vcpu-0") + descriptors + pack(f"<{len(values)}Q", *values)


EXITS = stat("exits", CUMULATIVE, 0)
WAIT = stat("halt_wait_ns", CUMULATIVE | SECONDS, 8, exponent=-9)
DEPTH = stat("depth_max", PEAK, 16)
HISTOGRAM = stat("hist", LOG_HIST | SECONDS, 24, exponent=-9, size=3)
PAGES = stat("pages", INSTANT | BYTES | POW2, 48, exponent=12)


@contextmanager
def stats_of(tmp_path: Path, content: bytes) -> Iterator[StatsFd]:
    path = tmp_path / "stats"
    path.write_bytes(content)
    number, _ = open_file(str(path), lib.O_RDONLY)
    with FdHolder(number, 0, "statistics"):
        yield StatsFd(number)


def test_reads_every_descriptor_with_its_unit(tmp_path):
    content = blob(EXITS, WAIT, DEPTH, HISTOGRAM, PAGES, values=(7, 8, 9, 1, 2, 3, 5))
    with stats_of(tmp_path, content) as stats:
        assert stats.id == "kvm-42/vcpu-0"
        wait = stats.descriptors[1]
        assert (wait.name, wait.type, wait.unit) == ("halt_wait_ns", StatsType.CUMULATIVE, StatsUnit.SECONDS)
        assert [(d.unit, d.base, d.exponent) for d in stats.descriptors] == [
            (StatsUnit.NONE, StatsBase.POW10, 0),
            (StatsUnit.SECONDS, StatsBase.POW10, -9),
            (StatsUnit.NONE, StatsBase.POW10, 0),
            (StatsUnit.SECONDS, StatsBase.POW10, -9),
            (StatsUnit.BYTES, StatsBase.POW2, 12),
        ]
        assert stats.read() == {"exits": 7, "halt_wait_ns": 8, "depth_max": 9, "hist": [1, 2, 3], "pages": 5}


def test_a_delta_leaves_out_what_cannot_be_subtracted(tmp_path):
    content = blob(EXITS, WAIT, DEPTH, HISTOGRAM, PAGES, values=(7, 8, 9, 1, 2, 3, 5))
    with stats_of(tmp_path, content) as stats:
        before = stats.read()
        (tmp_path / "stats").write_bytes(content[:-56] + pack("<7Q", 10, 8, 9, 9, 9, 9, 4))
        assert stats.delta(before, stats.read()) == {"exits": 3, "halt_wait_ns": 0, "pages": -1}


def test_values_may_lie_in_any_order(tmp_path):
    with stats_of(tmp_path, blob(stat("b", CUMULATIVE, 8), stat("a", CUMULATIVE, 0), values=(1, 2))) as stats:
        assert stats.read() == {"b": 2, "a": 1}


def test_a_newer_kernels_type_and_unit_stay_numbers(tmp_path):
    with stats_of(tmp_path, blob(stat("new", 9 | 9 << 4, 0), values=(1,))) as stats:
        assert (stats.descriptors[0].type, stats.descriptors[0].unit) == (9, 9 << 4)
        assert stats.read() == {"new": 1}


def test_no_statistics_at_all_is_fine(tmp_path):
    with stats_of(tmp_path, blob(values=())) as stats:
        assert stats.read() == {}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "0 bytes of 24"),
        (blob(EXITS, values=())[:100], "28 bytes of 64 at 72"),
        (blob(EXITS, values=(1,), id_offset=8), "overlap"),
        (blob(EXITS, values=(1,), desc_offset=30), "overlap"),
        (blob(EXITS, values=(1,), data_offset=80), "overlap"),
        (blob(EXITS, stat("twin", CUMULATIVE, 0), values=(1,)), "'twin'"),
        (blob(stat("odd", CUMULATIVE, 4), values=(1, 1)), "'odd'"),
        (blob(stat("", CUMULATIVE, 0), values=(1,)), "''"),
        (blob(stat("none", CUMULATIVE, 0, size=0), values=(1,)), "'none'"),
    ],
)
def test_refuses_what_makes_no_sense(tmp_path, content, complaint):
    with pytest.raises(StatsError, match=complaint), stats_of(tmp_path, content):
        pass


def test_a_closed_fd_is_one_clear_error(tmp_path):
    with stats_of(tmp_path, blob(EXITS, values=(1,))) as stats:
        pass
    with pytest.raises(StatsError, match="cannot read KVM's statistics"):
        stats.read()


@contextmanager
def virtual_machine() -> Iterator[FdHolder]:
    number, _ = open_file("/dev/kvm", lib.O_RDWR)
    with FdHolder(number, SYSTEM, "/dev/kvm") as kvm:
        vm = ioctl(kvm, IOCTLS["KVM_CREATE_VM"], 0)
        with FdHolder(vm, VM, "VM") as holder:
            yield holder


@pytest.mark.needs("kvm")
def test_a_real_vms_statistics():
    with virtual_machine() as vm, FdHolder(ioctl(vm, IOCTLS["KVM_GET_STATS_FD"]), 0, "statistics") as fd:
        stats = StatsFd(fd)
        assert stats.id.startswith(f"kvm-{os.getpid()}")
        assert {"remote_tlb_flush", "mmu_shadow_zapped", "pages_4k"} <= set(stats.read())
        # kvm_binary_stats_test.c: only times have a negative exponent
        assert all(d.exponent >= 0 or d.unit == StatsUnit.SECONDS for d in stats.descriptors)
        assert all((d.bucket_size > 0) == (d.type == StatsType.LINEAR_HIST) for d in stats.descriptors)


@pytest.mark.needs("kvm")
def test_a_real_vcpus_statistics():
    with (
        virtual_machine() as vm,
        FdHolder(ioctl(vm, IOCTLS["KVM_CREATE_VCPU"], 0), VCPU, "vCPU") as vcpu,
        FdHolder(ioctl(vcpu, IOCTLS["KVM_GET_STATS_FD"]), 0, "statistics") as fd,
    ):
        values = StatsFd(fd).read()
        assert {"exits", "nested_run", "tlb_flush", "pf_fixed"} <= set(values)
        assert values["nested_run"] == 0
        assert isinstance(values["halt_wait_hist"], list)


def test_struct_sizes_are_the_headers():
    assert ffi.sizeof("struct kvm_stats_header") == HEADER_BYTES
    assert ffi.sizeof("struct kvm_stats_desc") == 16
