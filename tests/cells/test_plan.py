"""L1 alone on the local KVM: its probes hold, and a translation that does not is found."""

import os
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.cells.passes import Plan
from kvmharness.cells.plan import plan
from kvmharness.guest import spaces
from kvmharness.guest.build import build
from kvmharness.guest.failures import StaleTranslation, explain
from kvmharness.guest.layout import Error, Flag, Place, Row
from kvmharness.guest.session import Session
from kvmharness.guest.shipped import run_loop
from kvmharness.kvm.capabilities import capabilities, cpuid_table
from kvmharness.kvm.exits import HltExit
from kvmharness.kvm.system import Kvm

pytestmark = pytest.mark.needs("kvm")


@pytest.fixture
def kvm():
    with Kvm.open() as opened:
        yield opened


@contextmanager
def cell_guest(kvm, cell):
    """A cell's guest as it is planned and built, and a session that explains what goes wrong."""
    offered = capabilities(kvm)
    planned = plan(cell, offered, Plan())
    with build(kvm, planned.blueprint, cpuid_table(offered.cpuid), run_loop()) as made:
        session = Session(made.loop, made.memory, explain=lambda failed: explain(failed, planned.vendor))
        yield SimpleNamespace(
            vm=made.vm, vcpu=made.vcpu, loop=made.loop, session=session, flags=planned.flags, planned=planned
        )


def alone(count, **options):
    return Cell(Setup.L1_ALONE, count, guest_cr3s=0, **options)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_l1_reads_through_every_new_cr3(kvm, count):
    with cell_guest(kvm, alone(count)) as guest:
        assert guest.flags == Flag(0)
        samples = guest.session.phase(4, 3 * count, guest.flags)
        assert len(samples) == 4
        assert min(samples) > 0
        assert guest.session.round_trips == 12 * count
        # It stands in the last row's address space.
        assert guest.vcpu.get_sregs().cr3 == guest.vm.memory[0].read_u64(Place.ROWS + (count - 1) * Row.BYTES)
        guest.session.finish()
        assert guest.loop.run() == HltExit()


@pytest.mark.needs("pcid")
@pytest.mark.parametrize("count", [1, 5])
def test_l1_changes_only_its_pcid(kvm, count):
    with cell_guest(kvm, alone(count, pcid=True)) as guest:
        guest.session.phase(2, 2 * count, guest.flags)
        sregs = guest.vcpu.get_sregs()
        assert sregs.cr4 & 1 << 17
        assert sregs.cr3 & 0xFFF == count
        assert guest.session.round_trips == 4 * count


@pytest.mark.parametrize("row", [0, 2])
def test_a_stale_translation_is_a_failure_with_its_place(kvm, row):
    """The row expects what another table maps: to the guest that is a CR3 that did not take effect."""
    wrong = spaces.host_tag(7)
    with cell_guest(kvm, alone(3)) as guest:
        guest.session.phase(1, 6, guest.flags)
        guest.vm.memory[0].write_u64(Place.ROWS + row * Row.BYTES + Row.HOST_TAG, wrong)
        with pytest.raises(StaleTranslation) as caught:
            guest.session.phase(1, 6, guest.flags)
    error = caught.value
    assert (error.level, error.code) == (1, Error.STALE_L1)
    assert error.round_trip == 6 + row
    assert (error.expected, error.seen) == (wrong, spaces.host_tag(row))


def test_a_translation_that_really_is_another_one_is_seen(kvm):
    """The tables are edited, not the expectation: what the guest reads is what its tables say, never the tag wanted."""
    with cell_guest(kvm, alone(2)) as guest:
        guest.session.phase(1, 4, guest.flags)
        memory = guest.vm.memory[0]
        tables = spaces.build(2, 0, 0)
        tagged = next(gpa for gpa, data in tables.pages.items() if data == spaces.host_tag(1).to_bytes(8, "little"))
        memory.write_u64(tagged, spaces.host_tag(5))
        with pytest.raises(StaleTranslation) as caught:
            guest.session.phase(1, 4, guest.flags)
    assert (caught.value.round_trip, caught.value.seen) == (5, spaces.host_tag(5))


def test_nothing_is_left_open(kvm):
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with cell_guest(kvm, alone(2)) as guest:
            guest.session.phase(1, 2, guest.flags)
            guest.vm.get_stats_fd()
    assert os.listdir("/proc/self/fd") == before
