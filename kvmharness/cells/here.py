"""Cells for this machine as it is: nobody loads its modules anew for them."""

from collections.abc import Iterable

from kvmharness.cells.cell import Cell, on_vendor
from kvmharness.cells.params import shown
from kvmharness.errors import HostRequirementError
from kvmharness.hosts.facts import HostFacts, normal


def here(cells: Iterable[Cell], host: HostFacts) -> tuple[Cell, ...]:
    """The cells with their parameters under this machine's names.

    Raises:
        HostRequirementError: a cell wants a parameter that KVM was loaded without.
        UsageError: it wants one of another vendor's module.
    """
    vendor_module = host.vendor_module
    named = tuple(cells) if vendor_module is None else tuple(on_vendor(cell, vendor_module) for cell in cells)
    for cell in named:
        for name, value in cell.params:
            loaded = host.parameter(name)
            if loaded != normal(value):
                has = "is not known" if loaded is None else f"is {loaded}"
                raise HostRequirementError(
                    f"{cell.id}: KVM is to be loaded with {shown(name, value)}, and here {name} {has}",
                    "Load the modules anew with it, or leave the parameter away.",
                )
    return named
