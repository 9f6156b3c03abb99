"""Guests that are hypervisors."""

import pytest

from kvmharness.abi.constants import NestedFlag
from kvmharness.guest.failures import UnexpectedL2Exit
from kvmharness.kvm.nested_state import decode

pytestmark = pytest.mark.needs("nested")
COUNTER, COPY = 0x50000, 0x60000


def calls(pair):
    return pair.memory.read_u64(COUNTER)


def in_l2(pair):
    return bool(decode(pair.vcpu.get_nested_state()).flags & NestedFlag.GUEST_MODE)


def test_own_l2_code(nested, counting_l2):
    pair = nested(l2=counting_l2)
    pair.run(3)
    pair.run(2)
    assert (calls(pair), pair.memory.read_u64(COPY), pair.round_trips) == (5, 5, 5)


def test_l2_that_leaves_otherwise(nested, assemble):
    pair = nested(l2=assemble("entry: ud2"))
    with pytest.raises(UnexpectedL2Exit):
        pair.run(1)


def test_dirty_log(nested, counting_l2):
    pair = nested(l2=counting_l2)
    pair.run(1)
    with pair.dirty_log() as log:
        pair.run(1)
        assert {COUNTER, COPY} <= set(log.pages())
        assert COPY + 0x10000 not in log.pages()


@pytest.mark.parametrize("how", ["same vCPU", "new VM"])
def test_state_saved_while_l2_runs(nested, assemble, how):
    pair = nested(l2=assemble("entry: mov ebx, 0x1234\n hlt\n mov [0x50000], rbx\n ret"))
    pair.run_until_halt(1)
    assert in_l2(pair)
    assert calls(pair) == 0
    if how == "new VM":
        pair.migrate()
    else:
        saved = pair.save()
        pair.vcpu.set_regs(pair.vcpu.get_regs().replace(rbx=0))
        pair.restore(saved)
    assert in_l2(pair)
    pair.go_on()
    assert (calls(pair), in_l2(pair), pair.round_trips) == (0x1234, False, 1)


def test_own_kprobe(nested, count, kvm_stats, kvm_vendor_function):
    pair = nested()
    pair.run(2)
    with count(kvm_vendor_function) as entries, kvm_stats(pair.vcpu) as stats:
        pair.run(7)
    assert entries == 7
    assert stats["nested_run"] == 7


@pytest.fixture
def kvm_vendor_function():
    with open("/proc/cpuinfo") as file:
        return "nested_svm_vmrun" if " svm " in file.read() else "nested_vmx_run"
