"""Dirty rings, with guests of a few bytes on the local device."""

import errno
from contextlib import ExitStack
from dataclasses import replace

import pytest

from kvmharness.abi.constants import Cap, MemFlag
from kvmharness.abi.errors import IoctlError
from kvmharness.kvm import exits
from kvmharness.kvm.dirty_ring import DirtyPage, DirtyRings
from tests.kvm import real_mode as guests
from tests.kvm.capabilities import require

pytestmark = pytest.mark.needs("kvm")

# mov byte [0x3000], 0x5a; mov byte [0x5000], 0x5b; hlt; then the first again
STORES = bytes.fromhex("c6 06 00 30 5a c6 06 00 50 5b f4 eb f3")
# mov byte [ebx], 1; add ebx, 0x1000; out 0x80, al; jmp back
A_BYTE_OF_EVERY_PAGE = bytes.fromhex("67 c6 03 01 66 81 c3 00 10 00 00 e6 80 eb f1")
RING_BYTES = 16 * 1024
ENTRIES = RING_BYTES // 16
PAGES = ENTRIES  # some more than fit, as some entries are kept in reserve
MEMORY_BYTES = PAGES * 0x1000


@pytest.fixture
def logged(vm):
    """A vCPU about to run *code*, in memory that is logged, and its ring."""
    require(vm, Cap.DIRTY_LOG_RING)
    with ExitStack() as stack:

        def make(code, memory_bytes=guests.MEMORY_BYTES):
            rings = DirtyRings(vm, RING_BYTES)
            vcpu = guests.load(vm, code, memory_bytes=memory_bytes)
            memory = vm.memory[0]
            vm.set_user_memory_region(0, 0, memory.size, memory.hva, MemFlag.LOG_DIRTY_PAGES)
            return vcpu, stack.enter_context(rings.of(vcpu))

        yield make


def test_pages_are_listed_until_they_are_collected_and_again_after_the_reset(vm, logged):
    vcpu, ring = logged(STORES)
    assert ring.collect() == []
    assert vcpu.run() == exits.HltExit()
    pages = ring.collect()
    assert set(pages) >= {DirtyPage(0, 3), DirtyPage(0, 5)}
    assert pages.index(DirtyPage(0, 3)) < pages.index(DirtyPage(0, 5))
    assert ring.collect() == []
    assert vm.reset_dirty_rings() == len(pages)
    assert vm.reset_dirty_rings() == 0
    assert vcpu.run() == exits.HltExit()
    assert set(ring.collect()) >= {DirtyPage(0, 3), DirtyPage(0, 5)}


def test_a_full_ring_stops_the_guest_until_it_is_collected(vm, logged):
    vcpu, ring = logged(A_BYTE_OF_EVERY_PAGE, MEMORY_BYTES)
    sregs = vcpu.get_sregs()
    sregs.ds = replace(sregs.ds, limit=0xFFFF_FFFF, g=1)  # real mode that reaches all memory
    vcpu.set_sregs(sregs)
    vcpu.set_regs(vcpu.get_regs().replace(rbx=0x800))  # not where the code is
    written, stops, found = 0, 0, set()
    while written < PAGES:
        exit_ = vcpu.run()
        if exit_ == exits.DirtyRingFullExit():
            stops += 1
            pages = ring.collect()
            assert ENTRIES - 576 <= len(pages) <= ENTRIES - 64
            assert vm.reset_dirty_rings() == len(pages)
            found |= set(pages)
        else:
            assert exit_.port == 0x80
            written += 1
    assert stops > 0
    assert found | set(ring.collect()) == {DirtyPage(0, page) for page in range(PAGES)}


def test_without_rings_there_is_nothing_to_reset(vm):
    require(vm, Cap.DIRTY_LOG_RING)
    with pytest.raises(IoctlError, match="KVM_RESET_DIRTY_RINGS") as caught:
        vm.reset_dirty_rings()
    assert caught.value.errno == errno.EINVAL
    assert "before its first vCPU" in caught.value.hint


def test_a_vcpu_of_another_vm_has_no_ring(kvm, vm):
    require(vm, Cap.DIRTY_LOG_RING)
    rings = DirtyRings(vm)
    with kvm.create_vm() as other, pytest.raises(ValueError, match="vCPU 0 is not of the VM"):
        rings.of(other.create_vcpu())


def test_a_vm_with_vcpus_gets_no_rings(vm):
    require(vm, Cap.DIRTY_LOG_RING)
    vm.create_vcpu()
    with pytest.raises(IoctlError, match="KVM_ENABLE_CAP of KVM_CAP_DIRTY_LOG_RING"):
        DirtyRings(vm)


def test_a_closed_ring_says_so(logged):
    _, ring = logged(STORES)
    ring.close()
    ring.close()
    with pytest.raises(ValueError, match="dirty ring of vCPU 0 is closed"):
        ring.collect()


@pytest.mark.parametrize("size_bytes", [0x200, 0x1800, 1 << 40])
def test_a_size_that_is_none_is_refused(vm, size_bytes):
    require(vm, Cap.DIRTY_LOG_RING)
    with pytest.raises(IoctlError, match="KVM_CAP_DIRTY_LOG_RING"):
        DirtyRings(vm, size_bytes)
