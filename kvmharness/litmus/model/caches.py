"""What a processor may have cached of the tables, by tag: the only reason why an access may give anything old.

The processor may walk the tables of the context that is active at any time, for any address, and keep what it finds: so
everything present that was there while a context was active may be cached, until something flushes it. Entries that are
not present are never cached. Source: SDM vol. 3A, "Caching Translation Information"; vol. 3C, "Caching Translation
Information" (of VMX); APM vol. 2, "Translation-Lookaside Buffer (TLB)" and "TLB Management".
"""

from collections import defaultdict

from kvmharness.litmus.model.memory import Entry, Memory, below_big, places


class Cache:
    """Of one context: translations, and the entries above them.

    A cached entry that leads to a page table saves the walk down to it, not the look into it: what the tables say *now*
    about an address can be found by way of any root whose upper entries are cached. Source: SDM vol. 3A,
    "Paging-Structure Caches".
    """

    def __init__(self) -> None:
        self.leaves: dict[str, set[Entry]] = defaultdict(set)
        self.tables: set[str] = set()  # roots whose upper entries may be cached
        self.small: set[str] = set()  # those of them whose entry above q0, or above L2's pages, led to a table

    def touch(self, table: str, memory: Memory, *, skip: frozenset[Entry] = frozenset()) -> None:
        """The context is active with this root: whatever it maps may be cached."""
        self.tables.add(table)
        if not memory.is_big(table):
            self.small.add(table)
        for place in places(table):
            entry = memory.effective(table, place)
            if entry.frame and entry not in skip:
                self.leaves[place].add(entry)

    def alternatives(self, table: str, place: str, memory: Memory) -> set[Entry]:
        """What a walk from this root may find."""
        found = set(self.leaves[place])
        found.add(memory.effective(table, place))
        by_way_of = self.small if below_big(table, place) else self.tables
        return found | {memory.entry(other, place) for other in by_way_of}

    def drop(self, place: str) -> None:
        """One address is invalidated, and all upper entries with it. Source: SDM vol. 2A, "INVLPG"."""
        self.leaves.pop(place, None)
        self.tables.clear()
        self.small.clear()


class Space:
    """All contexts of one tag (VPID or ASID): one a PCID, and the global translations that they share."""

    def __init__(self) -> None:
        self.contexts: dict[int, Cache] = defaultdict(Cache)
        self.global_: dict[str, set[Entry]] = defaultdict(set)

    def touch(self, pcid: int, table: str, memory: Memory, *, pge: bool, nxe: bool) -> None:
        """A context is active. Source: SDM vol. 3A, "Global Pages"."""
        entries = {memory.effective(table, place) for place in places(table)}
        # With NXE = 0 the bit is reserved, and what faults is not cached.
        reserved = frozenset(e for e in entries if not nxe and "nx" in getattr(e, "flags", ()))
        shared = frozenset(e for e in entries - reserved if pge and "g" in getattr(e, "flags", ()))
        self.contexts[pcid].touch(table, memory, skip=reserved | shared)
        for place in places(table):
            if (entry := memory.effective(table, place)) in shared:
                self.global_[place].add(entry)

    def alternatives(self, pcid: int, table: str, place: str, memory: Memory) -> set[Entry]:
        """What a walk may find."""
        return self.contexts[pcid].alternatives(table, place, memory) | self.global_[place]

    def flush(self, pcid: int | None = None, *, global_: bool = False) -> None:
        """Drops one context, or all of them, with the global translations or without."""
        if pcid is None:
            self.contexts.clear()
        else:
            self.contexts.pop(pcid, None)
        if global_:
            self.global_.clear()

    def drop(self, pcid: int | None, place: str, *, global_: bool) -> None:
        """Drops one address, of one context or of all."""
        for number in [pcid] if pcid is not None else list(self.contexts):
            self.contexts[number].drop(place)
        if global_:
            self.global_.pop(place, None)
