"""The address spaces of a cell, walked by a walker that shares no code with what built them."""

import pytest

from kvmharness.guest import spaces
from kvmharness.guest.layout import MEMORY_BYTES, PAGE_BYTES, PROBE_GVA, Place
from kvmharness.vendors.svm.svm import SVM
from kvmharness.vendors.vmx.vmx import VMX
from tests.x86.walker import WalkError, walk, walk_ept

SHAPES = [(1, 0, 0), (8, 0, 0), (1, 1, 0), (3, 3, 0), (4, 4, 0), (5, 1, 1), (1, 1, 8), (3, 2, 3)]


class Memory:
    def __init__(self, pages):
        self.bytes = bytearray(MEMORY_BYTES)
        for gpa, data in pages.items():
            assert not any(self.bytes[gpa : gpa + len(data)]), f"{gpa:#x} is written twice"
            self.bytes[gpa : gpa + len(data)] = data

    def u64(self, gpa):
        return int.from_bytes(self.bytes[gpa : gpa + 8], "little")


@pytest.fixture(params=SHAPES, ids=str)
def shape(request):
    return request.param


@pytest.fixture
def built(shape):
    return spaces.build(*shape, VMX.nested_space)


@pytest.fixture
def memory(built):
    return Memory(built.pages)


def test_there_is_one_of_each(shape, built):
    assert (len(built.host_cr3), len(built.guest_cr3), len(built.eptp)) == shape
    for values in (built.host_cr3, built.guest_cr3, built.eptp):
        assert len(set(values)) == len(values)


def test_every_root_of_l1_reads_its_own_tag(built, memory):
    seen = [memory.u64(walk(memory.u64, cr3, PROBE_GVA).gpa) for cr3 in built.host_cr3]
    assert seen == [spaces.host_tag(i) for i in range(len(built.host_cr3))]


def test_every_root_of_l2_reads_its_own_tag_through_every_ept(built, memory):
    for j, cr3 in enumerate(built.guest_cr3):
        for k, eptp in enumerate(built.eptp or (None,)):

            def through(gpa, eptp=eptp):
                return gpa if eptp is None else walk_ept(memory.u64, eptp, gpa).gpa

            # The walker's own reads of L2's tables are L2-physical, so they go through the EPT as well.
            found = walk(lambda gpa, through=through: memory.u64(through(gpa)), cr3, PROBE_GVA)
            assert memory.u64(through(found.gpa)) == spaces.guest_tag(j, k)


def test_all_tags_differ(shape):
    hosts, guests, epts = shape
    tags = [spaces.host_tag(i) for i in range(hosts)]
    tags += [spaces.guest_tag(j, k) for j in range(guests) for k in range(max(1, epts))]
    assert len(set(tags)) == len(tags)
    assert 0 not in tags


@pytest.mark.parametrize("gva", [0, int(Place.L1_CODE), int(Place.STACK_TOP) - 8, MEMORY_BYTES - PAGE_BYTES])
def test_l1_sees_its_memory_as_it_is_in_every_root(built, memory, gva):
    for cr3 in built.host_cr3:
        found = walk(memory.u64, cr3, gva)
        assert (found.gpa, found.writable, found.executable, found.user) == (gva, True, True, False)


def test_l2_runs_the_code_that_l1_placed(built, memory):
    for cr3 in built.guest_cr3:
        assert walk(memory.u64, cr3, Place.L2_CODE).gpa == Place.L2_CODE
    for eptp in built.eptp:
        found = walk_ept(memory.u64, eptp, Place.L2_CODE)
        assert (found.gpa, found.executable) == (Place.L2_CODE, True)


def test_nothing_else_is_mapped(built, memory):
    for cr3 in built.host_cr3:
        for gva in (MEMORY_BYTES, PROBE_GVA + PAGE_BYTES, PROBE_GVA - PAGE_BYTES):
            with pytest.raises(WalkError, match="not present"):
                walk(memory.u64, cr3, gva)


def test_walks_write_nothing(built, memory):
    """Accessed and dirty bits are set beforehand: KVM would otherwise see writes to tables that it shadows."""
    for cr3 in (*built.host_cr3, *built.guest_cr3):
        found = walk(memory.u64, cr3, PROBE_GVA)
        assert found.accessed
        assert found.dirty
        assert all(step.entry & 1 << 5 for step in found.steps)


@pytest.mark.parametrize("shape", [(5, 1, 1), (1, 1, 8), (3, 2, 3)], ids=str)
def test_nested_page_tables_in_the_place_of_ept(shape):
    built = spaces.build(*shape, nested_space=SVM.nested_space)
    memory = Memory(built.pages)
    assert len(set(built.eptp)) == shape[2]
    for j, cr3 in enumerate(built.guest_cr3):
        for k, n_cr3 in enumerate(built.eptp):
            used = []

            def through(gpa, n_cr3=n_cr3, used=used):
                used.append(walk(memory.u64, n_cr3, gpa))
                return used[-1].gpa

            found = walk(lambda gpa, through=through: memory.u64(through(gpa)), cr3, PROBE_GVA)
            assert memory.u64(through(found.gpa)) == spaces.guest_tag(j, k)
            # To nested paging all accesses are user accesses, and those of L2's page walk are writes.
            assert all(each.user and each.writable and each.accessed and each.dirty for each in used)
            assert walk(memory.u64, n_cr3, Place.L2_CODE).executable


@pytest.mark.parametrize("shape", [(16, 1, 0), (1, 16, 0), (1, 1, 16)])
def test_more_than_fits_is_refused(shape):
    with pytest.raises(ValueError, match="at most 15"):
        spaces.build(*shape)


def test_the_largest_cells_fit():
    for shape in ((15, 15, 0), (15, 1, 15), (8, 8, 8)):
        Memory(spaces.build(*shape, VMX.nested_space).pages)
