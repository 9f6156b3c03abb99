"""Operand rows: their bytes, and that they say to the guest what the oracle is told about the same cell."""

import struct

import pytest

from kvmharness.cells.matrix import matrix
from kvmharness.cells.plan import round_trips
from kvmharness.cells.rotation import rotation, scenario
from kvmharness.guest import rows, spaces
from kvmharness.guest.layout import ROWS_MAX, Action, Row
from kvmharness.guest.rows import RoundTrip
from kvmharness.vendors.vmx.vmx import VMX

CELLS = matrix()


def test_words_are_where_the_guest_reads_them():
    row = RoundTrip(host_cr3=1, host_tag=2, guest_cr3=3, guest_tag=4, eptp=5, l2_cr3=6, actions=7)
    raw = rows.encode([RoundTrip(0, 0), row])
    assert len(raw) == 2 * Row.BYTES

    def word(place):
        return struct.unpack_from("<Q", raw, Row.BYTES + place)[0]

    assert [word(place) for place in (Row.HOST_CR3, Row.HOST_TAG, Row.GUEST_CR3, Row.GUEST_TAG)] == [1, 2, 3, 4]
    assert [word(place) for place in (Row.EPTP, Row.L2_CR3, Row.ACTIONS)] == [5, 6, 7]


@pytest.mark.parametrize("count", [0, ROWS_MAX + 1])
def test_no_rows_and_too_many_are_refused(count):
    with pytest.raises(ValueError, match=f"{count} operand rows"):
        rows.encode([RoundTrip(1, 1)] * count)


def operands(cell):
    order = rotation(cell)
    tables = spaces.build(
        1 + max(root for root, _ in order.host),
        1 + max((r for r, _ in order.guest), default=-1),
        cell.eptps,
        VMX.nested_space,
    )
    return round_trips(order, tables), tables


def pattern(sequence):
    """Which elements are equal: each one as the place where it was first seen."""
    first = {}
    return [first.setdefault(value, len(first)) for value in sequence]


def repeated(sequence, count):
    return [sequence[i % len(sequence)] for i in range(count)]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_rows_are_the_oracles_scenario(cell):
    made, _ = operands(cell)
    told = scenario(cell, l0_tdp=True)
    count = len(made)
    assert count == told.period
    assert pattern([r.host_cr3 for r in made]) == pattern(repeated(told.host_cr3, count))
    assert [r.host_cr3 & 0xFFF for r in made] == [cr3 & 0xFFF for cr3 in repeated(told.host_cr3, count)]
    if cell.nested:
        # One pattern over both levels: a value that L1 and L2 share would be a root that they share.
        both = [value for r in made for value in (r.host_cr3, r.guest_cr3)]
        pairs = zip(repeated(told.host_cr3, count), repeated(told.guest_cr3, count), strict=True)
        assert pattern(both) == pattern([value for pair in pairs for value in pair])
    if cell.eptps:
        assert pattern([r.eptp for r in made]) == pattern(repeated(told.eptp, count))
    assert [number for number, r in enumerate(made) if r.actions & Action.INVEPT] == (
        [number for number in range(count) if number % told.invept_every == 0] if told.invept_every else []
    )


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_every_row_expects_the_tag_behind_its_tables(cell):
    """A tag for each table, whatever the PCID: two rows expect the same tag exactly when they use the same tables."""
    made, tables = operands(cell)
    for r in made:
        assert r.host_tag == spaces.host_tag(tables.host_cr3.index(r.host_cr3 & ~0xFFF))
        if cell.nested:
            ept = tables.eptp.index(r.eptp) if cell.eptps else 0
            assert r.guest_tag == spaces.guest_tag(tables.guest_cr3.index(r.guest_cr3 & ~0xFFF), ept)
