"""What reports and claims call cells, on hosts with EPT and without."""

import pytest

from kvmharness.cells.cell import Cell, on_vendor
from kvmharness.cells.labels import check_pattern, label, letter
from kvmharness.errors import UsageError

WITH_EPT, WITHOUT = {"l0_ept": True}, {"l0_ept": False}


@pytest.mark.parametrize(
    ("id_", "host", "shown"),
    [
        ("a:3x3", WITH_EPT, "a:3x3"),
        ("a:3x3", {}, "a:3x3"),
        ("a:3x3", {"l0_ept": None}, "a:3x3"),
        ("a:3x3", WITHOUT, "e:3x3"),
        ("a:3x3/pcid/ept=0", WITH_EPT, "e:3x3/pcid/ept=0"),
        ("a:3x3/npt=N", WITH_EPT, "e:3x3/npt=N"),
        ("a:3x3/ept=1", WITH_EPT, "a:3x3/ept=1"),
        ("a:3x3/tdp_mmu=0", WITH_EPT, "a:3x3/tdp_mmu=0"),
        ("d:5/ept=0", WITH_EPT, "d:5/ept=0"),
        ("d:5", WITHOUT, "d:5"),
        ("b:5x1", WITHOUT, "b:5x1"),
    ],
)
def test_labels(id_, host, shown):
    cell = Cell.parse(id_)
    assert label(cell, host) == shown
    assert letter(cell, host) == shown[0]


@pytest.mark.parametrize("id_", ["a:3x3", "a:3x3/ept=0", "c:3/AABB/5x5", "d:5/ept=0"])
def test_what_was_printed_can_be_typed_back(id_):
    cell = Cell.parse(id_)
    assert on_vendor(Cell.parse(label(cell, WITH_EPT)), "kvm_intel") == cell


@pytest.mark.parametrize("pattern", ["*", "?:3x3", "[ae]:*", "e:3x3", "e:*", "b:5x1/tdp_mmu=?", "c:*/ABAB*", "a*"])
def test_patterns_that_can_match(pattern):
    check_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("q:*", "begins with none of the set-ups a, b, c, d, e"),
        ("a:3", "'a:3' is no cell"),
        ("", "'' is no cell"),
        ("a:3x3/ept=0", "'a:3x3/ept=0' is not how that cell is labelled"),
        ("a:3x3/novpid/pcid", "'a:3x3/novpid/pcid' is not how that cell is labelled"),
    ],
)
def test_patterns_that_cannot(pattern, says):
    with pytest.raises(UsageError) as caught:
        check_pattern(pattern)
    assert says in str(caught.value)
