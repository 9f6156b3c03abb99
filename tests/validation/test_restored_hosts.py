"""Real snapshots: restored hosts do what booted ones do, again and again, and a damaged one is found out."""

import re
import resource

import pytest

from kvmharness.cells.matrix import select
from kvmharness.lab.events import Hello
from kvmharness.lab.job import Job
from kvmharness.lab.kernels import build
from kvmharness.lab.machines import emulator
from kvmharness.lab.machines.snapshot import bochs, qemu
from kvmharness.lab.machines.snapshot.kept import kept
from kvmharness.lab.machines.snapshot.state import STATE, keep, take
from kvmharness.lab.steps import Exec
from kvmharness.results.record import VariantId
from kvmharness.validation.campaign import Variant, run_in
from kvmharness.validation.snapshots import difference, emulated_host
from tests.machines import events

pytestmark = pytest.mark.slow
HOSTS = [
    pytest.param("vmx:skylake", marks=pytest.mark.needs("emulated_vmx")),
    pytest.param("vmx:penryn", marks=pytest.mark.needs("emulated_vmx")),
    pytest.param("svm:epyc", marks=pytest.mark.needs("emulated_svm")),
]
# None of them is a canary.
CELLS = select(("a:1x1", "a:2x2/novpid", "d:1"))
# Random numbers of the kernel, and what its clocks say.
PROGRAM = "cat /proc/sys/kernel/random/uuid /proc/uptime /proc/interrupts; dmesg | tail -3"


@pytest.fixture(scope="module")
def kernel():
    return build.kernel()


def never(line):
    pytest.fail(f"no snapshot: {line}")


def kept_by(machine):
    return kept(machine.machine, machine._differs, lambda line: None)


def restored(host, kernel):
    kept_by(emulated_host(host, kernel))  # made here, so that what is said later is an error
    return emulated_host(host, kernel, say=never)


def figures(machine, kernel):
    stock = Variant(VariantId("stock", kernel.source), kernel.modules)
    record = run_in(machine, (stock,), ("stock",), CELLS, command=("a", "test"), on_result=lambda *progress: None)
    wanted = ("kvm_mmu_load", "kvm_mmu_new_pgd")
    return [
        (
            one.id,
            {name: one.counts[name] for name in wanted if name in one.counts},
            {name: count for name, count in one.exits.items() if name not in ("EXTERNAL_INTERRUPT", "INTR")},
            min(one.samples, default=0),
        )
        for one in record.results
    ]


@pytest.mark.parametrize("host", HOSTS)
def test_a_restored_host_does_what_a_booted_one_does(host, kernel):
    found = figures(restored(host, kernel), kernel)
    assert sum(time > 0 for *_, time in found) >= 2
    for one, (*counts, time) in zip(found, figures(emulator.emulated_host(host, kernel), kernel), strict=True):
        assert one == (*counts, pytest.approx(time, rel=1e-3))


@pytest.mark.parametrize("host", HOSTS)
def test_restored_hosts_are_the_same_to_the_byte(host, kernel):
    machine = restored(host, kernel)
    job = Job((Exec(("/bin/sh", "-c", PROGRAM)),), timeout_s=60)
    first = events(machine, job)
    assert len(first) > 3
    assert isinstance(first[0], Hello)
    for _ in range(3):
        assert events(machine, job) == first


def processor_time(machine, job):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    events(machine, job)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("host", [HOSTS[0], HOSTS[-1]])  # one of each emulator
def test_restoring_costs_a_fraction_of_booting(host, kernel):
    job = Job((), timeout_s=60)
    fast, slow = restored(host, kernel), emulator.emulated_host(host, kernel)
    assert processor_time(fast, job) < 0.2 * processor_time(slow, job)


@pytest.mark.needs("emulated_svm")
def test_a_snapshot_that_was_tampered_with_is_made_anew(kernel):
    machine = restored("svm:epyc", kernel)
    with (kept_by(machine) / qemu.STREAM).open("r+b") as file:
        file.seek(-1000, 2)
        file.write(b"tampered")
    said = []
    events(emulated_host("svm:epyc", kernel, say=said.append), Job((), timeout_s=60))
    assert "stream changed since it was kept" in said[0]
    assert "made anew" in said[0]
    events(restored("svm:epyc", kernel), Job((), timeout_s=60))


@pytest.mark.needs("emulated_vmx")
def test_the_check_finds_a_snapshot_whose_timers_are_mixed_up(kernel, tmp_path):
    machine = restored("vmx:skylake", kernel)
    take(kept_by(machine), tmp_path / STATE)
    place = tmp_path / STATE / "pc_system"
    text = place.read_text()
    for _ in range(3):  # four times in all, and they are as Bochs saved them
        text = bochs.renumbered(text)
    place.write_text(text)
    keep(tmp_path / STATE, tmp_path / "kept")
    why = difference(machine.machine, tmp_path / "kept", kernel.modules)
    assert re.search(r"\w+ of a:3x3 is \d+(\.\d+)? booted and \d+(\.\d+)? restored$", why)
