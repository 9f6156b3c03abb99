"""Which cell the fixture `nested` makes of what a test says; the guests themselves need KVM."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from kvmharness.cells.cell import Order
from kvmharness.errors import HostRequirementError, UsageError
from kvmharness.hosts.facts import facts
from kvmharness.testing.fixtures import guests
from tests.hostfiles import HostFiles
from tests.surroundings import skylake


@pytest.fixture
def machine(tmp_path):
    """The files of a host with everything."""
    return HostFiles(tmp_path)


@pytest.fixture
def make(monkeypatch, machine):
    """The fixture's function with a guest that is none, for a session that requires what it is given."""

    @contextmanager
    def no_guest(kvm, blueprint, cpuid, run_loop):
        yield SimpleNamespace(vm=None, vcpu=None, memory=None, loop=SimpleNamespace())

    monkeypatch.setattr(guests.build, "build", no_guest)
    watched = SimpleNamespace(add=lambda *_: None, exits=[])

    def make(*required):
        host = facts(str(machine.root))
        return guests.Guests(None, skylake().offered, host, watched, required).make_nested

    return make


@pytest.fixture
def nested(make):
    return make()


@pytest.mark.parametrize(
    ("words", "fields", "id_"),
    [
        ([], {}, "a:1x1"),
        ([], {"host_cr3s": 3, "guest_cr3s": 2}, "a:3x2"),
        ([], {"eptps": 1, "invept_every": 4}, "b:1x1/invept4"),
        ([], {"eptps": 5, "order": Order.AABB}, "c:5/AABB"),
        (["c:3/AABB/5x5"], {}, "c:3/AABB/5x5"),
        (["a:3x3/pcid"], {"vpid": False}, "a:3x3/pcid/novpid"),
    ],
)
def test_the_cell_of_what_is_said(nested, words, fields, id_):
    assert nested(*words, **fields).cell.id == id_


@pytest.mark.parametrize(
    ("words", "fields", "says"),
    [
        (["d:5"], {}, "a cell with L1 alone has no L2"),
        (["c:3"], {}, "'c:3' is no cell"),
        ([], {"eptps": 16}, "c:16/ABAB does not fit into a guest's memory"),
        ([], {"eptps": -1}, "eptps = -1: a number from 1"),
        ([], {"order": Order.AABB}, "order = AABB"),
    ],
)
def test_what_cannot_be_made(nested, words, fields, says):
    with pytest.raises(UsageError) as caught:
        nested(*words, **fields)
    assert says in str(caught.value)


def test_a_parameter_that_kvm_was_not_loaded_with(nested):
    with pytest.raises(HostRequirementError, match=r"kvm\.no_such_thing is not known"):
        nested("a:3x3/kvm.no_such_thing=1")


def test_a_host_without_vpid(machine, make):
    machine.put("sys/module/kvm_intel/parameters/vpid", "N")
    assert make()().cell.id == "a:1x1/novpid"
    assert make()(eptps=2).cell.id == "c:2/ABAB/novpid"
    for words, fields in ((["a:3x3"], {}), ([], {"vpid": True})):
        with pytest.raises(pytest.skip.Exception, match=r"tlb_tags: .*/vpid is N"):
            make("nested_vmx")(*words, **fields)
    with pytest.raises(pytest.fail.Exception, match="required, but not there: a:3x3: tlb_tags"):
        make("tlb_tags")("a:3x3")


def test_a_host_without_ept_has_no_nested_ept(machine, make):
    machine.put("sys/module/kvm_intel/parameters/ept", "N")
    assert make()().cell.id == "a:1x1"
    with pytest.raises(pytest.skip.Exception, match=r"c:3/AABB: tdp: .*/ept is N"):
        make()("c:3/AABB")
