"""Where a series is validated: the hosts that the user names, each with the cells that can run there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kvmharness.cells.cell import Cell, with_params
from kvmharness.cells.matrix import validation_matrix
from kvmharness.errors import UsageError
from kvmharness.hosts import catalogue
from kvmharness.lab.kernels import parameters
from kvmharness.lab.kernels.build import Kernel
from kvmharness.lab.kernels.source import Source
from kvmharness.patches.series import Series
from kvmharness.validation.hostbase import Host
from kvmharness.validation.look import Look, touched_paths
from kvmharness.validation.settings import vendors
from kvmharness.vendors.known import of_module


@dataclass(frozen=True, slots=True)
class Place:
    """A host that a series is validated on.

    Attributes:
        host: the host.
        base: what the variants are made from there.
        cells: to run under each variant.
        usual: the cells are the usual ones, not what the user asked for.
        skipped: what cannot run there, and why, a sentence each.
    """

    host: Host
    base: Source | Kernel
    cells: tuple[Cell, ...]
    usual: bool
    skipped: tuple[str, ...] = ()


def usual_hosts(series: Series, *, one: bool = False) -> tuple[str, ...]:
    """The hosts that a series is validated on when the user names none: of each vendor whose code it changes one.

    Args:
        series: the series.
        one: a single one is enough.
    """
    concerned = vendors(touched_paths(series))
    there = [vendor for vendor in concerned if not catalogue.first(vendor).emulator.lacks()]
    return tuple(there or concerned)[: 1 if one or not there else None]


def places(
    hosts: Iterable[Host],
    asked: tuple[Cell, ...],
    params: Mapping[str, str],
    *,
    source: Path | None = None,
    may_reload: bool = False,
) -> tuple[Place, ...]:
    """The hosts, each with what can run there; one that can run none of the cells has none, and says why.

    Args:
        hosts: as the user named them.
        asked: the cells that the user asked for; the usual ones when empty.
        params: module parameters for each of them.
        source: see :meth:`kvmharness.validation.hostbase.Host.base`.
        may_reload: likewise.

    Raises:
        UsageError: a cell can run on none of the hosts, or as :meth:`kvmharness.validation.hostbase.Host.base`.
    """
    found: list[Place] = []
    refused: dict[Cell, list[UsageError]] = {}
    for host in hosts:
        cells: list[Cell] = []
        skipped: list[str] = []
        for cell in asked or validation_matrix(host.vendor_module):
            try:
                cells.append(_fitting(cell, host, params, usual=not asked))
            except UsageError as error:
                refused.setdefault(cell, []).append(error)
                skipped.append(f"Not on {host.spec}: {error}.")
        base = host.base(source, may_reload=may_reload)
        found.append(Place(host, base, tuple(cells), not asked, tuple(skipped)))
    for errors in refused.values():
        if not asked or len(errors) == len(found):
            raise errors[0]
    return tuple(found)


def _fitting(cell: Cell, host: Host, params: Mapping[str, str], *, usual: bool) -> Cell:
    (fitting,) = host.fitting((with_params(cell, params),), reloading=True)
    if not usual and (why := host.lacks(fitting)):  # of the usual ones, the record says what was skipped, and why
        raise UsageError(f"{cell.id} needs {why}; {host.spec} does not offer that", "Choose another --host for it.")
    return fitting


def under(place: Place, kernel: Look, params: Iterable[str]) -> Place:
    """The place with the cells whose module parameters the kernel knows.

    Args:
        place: as the user wants it.
        kernel: what is known of it.
        params: the names of those that the user wants everywhere.

    Raises:
        UsageError: the kernel does not know a parameter that the user asked for.
    """
    parameters.check(params, kernel.parameters)
    cells: list[Cell] = []
    skipped: list[str] = []
    for cell in place.cells:
        try:
            parameters.check((name for name, _ in cell.params), kernel.parameters)
            cells.append(cell)
        except UsageError as error:
            if not place.usual:
                raise
            skipped.append(f"Not {cell.id}: {error}.")
    return replace(place, cells=tuple(cells), skipped=(*place.skipped, *skipped))


def check_claims(seen: Iterable[Look], there: Iterable[Place]) -> None:
    """Refuses claims that none of the places could answer, whichever cells are chosen this time.

    Raises:
        ClaimError: naming the claim.
    """
    every = tuple(there)
    vendors = [of_module(place.host.vendor_module) for place in every]
    reasons = {reason for vendor in vendors if vendor for reason in vendor.counted}
    cells = {cell for place in every for cell in (*place.cells, *validation_matrix(place.host.vendor_module))}
    for look in seen:
        look.check_answerable(cells, reasons)
