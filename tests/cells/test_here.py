"""Cells on a machine whose modules nobody loads anew."""

import pytest

from kvmharness.cells.cell import Cell
from kvmharness.cells.here import here
from kvmharness.errors import HostRequirementError
from kvmharness.hosts.facts import facts
from tests.hostfiles import HostFiles


@pytest.fixture
def host(tmp_path):
    made = HostFiles(tmp_path)
    made.module("kvm_intel", nested="Y", ept="N")
    return facts(str(made.root))


@pytest.mark.parametrize(
    ("typed", "runs"),
    [
        ("a:3x3/pcid", "a:3x3/pcid"),
        ("e:3x3", "a:3x3/ept=0"),
        ("a:3x3/ept=N/tdp_mmu=1", "a:3x3/tdp_mmu=1/ept=N"),
    ],
)
def test_what_the_modules_were_loaded_with(host, typed, runs):
    assert [cell.id for cell in here([Cell.parse(typed)], host)] == [runs]


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("a:3x3/tdp_mmu=N", "a:3x3/tdp_mmu=N: KVM is to be loaded with tdp_mmu=N, and here kvm.tdp_mmu is Y"),
        ("a:3x3/ept=1", "and here kvm_intel.ept is N"),
        ("d:5/kvm.nonsense=1", "and here kvm.nonsense is not known"),
    ],
)
def test_anything_else_is_refused(host, typed, says):
    with pytest.raises(HostRequirementError) as caught:
        here([Cell.parse("a:1x1"), Cell.parse(typed)], host)
    assert says in str(caught.value)
    assert caught.value.hint
