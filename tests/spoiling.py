"""Blueprints with one thing spoiled: what a guest is made to do wrong is decided before it is built."""

import struct
from collections.abc import Callable
from dataclasses import replace

from kvmharness.cells.plan import Planned
from kvmharness.guest.layout import Place, Row
from kvmharness.vendors.vmx.l1 import TABLE_END, Region


def written(planned: Planned, gpa: int, data: bytes) -> Planned:
    """The cell with other bytes at a place of its guest's memory."""
    pages = dict(planned.blueprint.pages)
    start = next(at for at, page in pages.items() if at <= gpa and gpa + len(data) <= at + len(page))
    page = bytearray(pages[start])
    page[gpa - start : gpa - start + len(data)] = data
    return replace(planned, blueprint=replace(planned.blueprint, pages={**pages, start: bytes(page)}))


def _word(planned: Planned, gpa: int) -> int:
    for start, page in planned.blueprint.pages.items():
        if start <= gpa < start + len(page):
            return int.from_bytes(page[gpa - start : gpa - start + 8], "little")
    raise ValueError(f"nothing lies at {gpa:#x}")


def with_row(planned: Planned, number: int, word: Row, change: Callable[[int], int]) -> Planned:
    """The cell with another operand in one of its rows."""
    gpa = Place.ROWS + number * Row.BYTES + word
    return written(planned, gpa, change(_word(planned, gpa)).to_bytes(8, "little"))


def with_field(planned: Planned, encoding: int, value: int) -> Planned:
    """The cell with another value in the table that L1 copies into its VMCS."""
    table = planned.blueprint.pages[Region.VMCS_TABLE]
    for place, (found, _) in enumerate(struct.iter_unpack("<QQ", table)):
        if found == encoding != TABLE_END:
            return written(planned, Region.VMCS_TABLE + 16 * place + 8, value.to_bytes(8, "little"))
    raise ValueError(f"field {encoding:#x} is not in the table")
