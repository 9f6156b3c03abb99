"""The address spaces of one cell: L1's roots, L2's roots and EPTs, each with a tagged page of its own behind the probe.

Whoever reads the probe learns from the tag which tables the read went through, so a stale translation cannot hide.
"""

from collections.abc import Callable, Sequence

from kvmharness.guest.layout import MEMORY_BYTES, PAGE_BYTES, PROBE_GVA, Place
from kvmharness.lean.dataclasses import dataclass
from kvmharness.vendors.vendor import Range
from kvmharness.x86.paging import PAGE_2M, PageTables
from kvmharness.x86.radix import RadixTables

_L2_PAGES = 16  # pages a row of L2's tagged pages takes, so roots stop at this number
_HOST_TAG = 0x4C31 << 48  # "L1"
_GUEST_TAG = 0x4C32 << 48  # "L2"


NestedSpace = Callable[[int, Sequence[Range]], tuple[RadixTables, int]]
"""Makes tables for a place from ranges, and the value that selects them."""


@dataclass(frozen=True, slots=True)
class Spaces:
    """Tables and tags.

    Attributes:
        host_cr3, guest_cr3: the value that selects each root of L1 and of L2, PCID 0.
        eptp: the value that selects each EPT; empty where L1 gives L2 none.
        pages: gpa -> bytes to place there.
    """

    host_cr3: tuple[int, ...]
    guest_cr3: tuple[int, ...]
    eptp: tuple[int, ...]
    pages: dict[int, bytes]


def host_tag(root: int) -> int:
    """What L1 reads at the probe through one of its roots."""
    return _HOST_TAG | root


def guest_tag(root: int, ept: int = 0) -> int:
    """What L2 reads at the probe through one of its roots, under one of the EPTs."""
    return _GUEST_TAG | ept << 16 | root


def build(
    host_roots: int,
    guest_roots: int,
    epts: int,
    nested_space: NestedSpace | None = None,
    *,
    identity_bytes: int = MEMORY_BYTES,
) -> Spaces:
    """Makes the tables of a cell.

    Args:
        host_roots: L1's, at least 1.
        guest_roots: L2's; 0 where there is no L2.
        epts: 0 where L1 gives L2 no EPT.
        nested_space: makes the EPTs, or what a vendor has in their place; only needed where there are any.
        identity_bytes: how much of L1's physical space its roots map at the same address.

    Raises:
        ValueError: more than fits into the guest's memory.
    """
    if max(host_roots, guest_roots, epts) >= _L2_PAGES:
        raise ValueError(f"{host_roots} + {guest_roots} roots and {epts} EPTs: at most {_L2_PAGES - 1} of each")
    place = _Placer()
    host = [place.root(place.page(host_tag(i)), identity_bytes) for i in range(host_roots)]
    guest = [place.root(_l2_probe_gpa(j), identity_bytes=PAGE_2M) for j in range(guest_roots)]
    for j in range(guest_roots):
        for k in range(max(epts, 1)):
            # Without EPT the page that L2's tables name is the tagged page itself.
            place.pages[_l2_target_gpa(j, k) if epts else _l2_probe_gpa(j)] = _tagged(guest_tag(j, k))
    eptp = [place.nested(k, guest_roots, nested_space) for k in range(epts)]
    return Spaces(tuple(host), tuple(guest), tuple(eptp), place.pages)


def _l2_probe_gpa(root: int) -> int:
    """Where L2's tables point for the probe, in L2's physical space."""
    return Place.L2_PROBE + root * PAGE_BYTES


def _l2_target_gpa(root: int, ept: int) -> int:
    """Where that page lies in L1's physical space under one of the EPTs."""
    return Place.L2_PROBE + ((ept + 1) * _L2_PAGES + root) * PAGE_BYTES


def _tagged(tag: int) -> bytes:
    return tag.to_bytes(8, "little")


class _Placer:
    """Hands out pages from the region of tables, one after the other."""

    def __init__(self) -> None:
        self.pages: dict[int, bytes] = {}
        self._next = int(Place.TABLES)

    def page(self, tag: int) -> int:
        gpa = self._take(PAGE_BYTES)
        self.pages[gpa] = _tagged(tag)
        return gpa

    def root(self, probe_gpa: int, identity_bytes: int) -> int:
        tables = PageTables(self._next)
        tables.map(0, 0, identity_bytes, page_bytes=PAGE_2M)
        tables.map(PROBE_GVA, probe_gpa)
        self.pages[self._take(len(tables.image))] = tables.image
        return tables.cr3().value

    def nested(self, index: int, guest_roots: int, nested_space: NestedSpace | None) -> int:
        assert nested_space is not None
        probes = [Range(_l2_probe_gpa(root), _l2_target_gpa(root, index), PAGE_BYTES) for root in range(guest_roots)]
        tables, selector = nested_space(self._next, [Range(0, 0, PAGE_2M), *probes])
        self.pages[self._take(len(tables.image))] = tables.image
        return selector

    def _take(self, length_bytes: int) -> int:
        gpa = self._next
        self._next += length_bytes
        if self._next > Place.L2_PROBE:
            raise ValueError("the page tables of this cell do not fit into the guest's memory")
        return gpa
