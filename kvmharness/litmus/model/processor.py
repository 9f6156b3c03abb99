"""One logical processor: the modes of its levels, its caches by tag, and what flushes which of them."""

from collections import defaultdict

from kvmharness.litmus.model.access import Mode
from kvmharness.litmus.model.caches import Cache, Space
from kvmharness.litmus.model.memory import Entry, Memory

L1_TAG = ("0", "")


class Processor:
    """See the module.

    Args:
        svm: translations are tagged with an ASID alone, under SVM's rules; else with VPID and EPTP, under VMX's.
        root: L1's first one.

    Attributes:
        modes: of L1 and L2.
        level: which of them runs.
    """

    def __init__(self, *, svm: bool, root: str = "H0") -> None:
        self.svm = svm
        self.modes = {"L1": Mode(root), "L2": Mode("G0")}
        self.level = "L1"
        self.nested = ""  # the nested tables that L2 was entered with, or switched to
        self.tracks = False  # whether the processor keeps A and D in them
        self.tag = "0"  # of L2
        self._spaces: dict[tuple[str, str], Space] = defaultdict(Space)
        self._nested: dict[str, Cache] = defaultdict(Cache)

    @property
    def mode(self) -> Mode:
        """Of the level that runs."""
        return self.modes[self.level]

    @property
    def space(self) -> Space:
        """The translations that are in use. Source: SDM vol. 3C, "Information That May Be Cached"."""
        if self.level == "L1":
            return self._spaces[L1_TAG]
        return self._spaces[self.tag, "" if self.svm else self.nested]

    @property
    def nested_cache(self) -> Cache:
        """The guest-physical translations in use: by EPTP in VMX; in SVM they belong to the ASID as everything does."""
        return self._nested[self.tag if self.svm else self.nested]

    def touch(self, memory: Memory) -> None:
        """What is active now may be cached."""
        mode = self.mode
        self.space.touch(mode.context, mode.table, memory, pge=mode.pge, nxe=mode.nxe)
        if self.level == "L2" and self.nested:
            self.nested_cache.touch(self.nested, memory)

    def alternatives(self, place: str, memory: Memory) -> set[Entry]:
        """What the level that runs may find for a probe."""
        return self.space.alternatives(self.mode.context, self.mode.table, place, memory)

    def nested_alternatives(self, place: str, memory: Memory) -> set[Entry]:
        """What it may find for a page in L2's physical space."""
        return self.nested_cache.alternatives(self.nested, place, memory)

    # What flushes

    def forget(self) -> None:
        """Everything: the processor is another one, or the tag was never used."""
        self._spaces.clear()
        self._nested.clear()

    def flush_tag(self, tag: str | None, *, global_: bool = True, nested: bool = False) -> None:
        """All translations of a VPID or ASID, or of all; with SVM the nested ones too, which VMX keeps by EPTP.

        Source: SDM vol. 3C, "Operations that Invalidate Cached Mappings"; APM vol. 2, "TLB Control".
        """
        for (number, _), space in list(self._spaces.items()):
            if tag in (None, number):
                space.flush(global_=global_)
        if nested:
            for name in [tag] if tag is not None else list(self._nested):
                self._nested.pop(name, None)

    def flush_address(self, tag: str, place: str) -> None:
        """One address of a VPID or ASID, global or not: INVVPID of an address, and INVLPGA."""
        for (number, _), space in list(self._spaces.items()):
            if number == tag:
                space.drop(None, place, global_=True)

    def flush_nested(self, nested: str | None) -> None:
        """INVEPT: the guest-physical translations of one EPTP or of all, and what was combined with them."""
        for name in [nested] if nested is not None else list(self._nested):
            self._nested.pop(name, None)
        for (_, name), space in list(self._spaces.items()):
            if name and nested in (None, name):
                space.flush(global_=True)

    def load_cr3(self, table: str, pcid: int, *, keep: bool) -> None:
        """MOV to CR3. Source: SDM vol. 3A, "Operations that Invalidate TLBs and Paging-Structure Caches"."""
        mode = self.mode
        mode.table, mode.pcid = table, pcid if mode.pcide else 0
        if not (keep and mode.pcide):
            self.space.flush(mode.context)

    def set_bit(self, name: str, value: bool) -> bool:
        """MOV to CR0 or CR4, WRMSR of EFER; False where it is a general protection fault.

        Source: SDM vol. 3A, "Operations that Invalidate ..." and "Process-Context Identifiers (PCIDs)".
        """
        mode = self.mode
        if name == "pcide" and value and not mode.pcide and mode.pcid:
            return False
        before = getattr(mode, name)
        setattr(mode, name, value)
        # A change of NXE flushes nothing by itself: software that wants the new meaning flushes.
        if (name == "pge" and before != value) or (name == "pcide" and before and not value):
            self.space.flush(global_=True)
        elif name == "smep" and value and not before:
            self.space.flush(mode.context, global_=True)
        return True

    def invlpg(self, place: str) -> None:
        """One address, global or not, of the PCID in use. Source: SDM vol. 2A, "INVLPG"."""
        self.space.drop(self.mode.context, place, global_=True)

    def invpcid(self, kind: str, pcid: int, place: str) -> None:
        """Source: SDM vol. 2A, "INVPCID"."""
        if kind == "addr":
            self.space.drop(pcid, place, global_=False)
        elif kind == "one":
            self.space.flush(pcid)
        else:
            self.space.flush(global_=kind == "all")

    def enter(self, table: str, pcid: int, nested: str, tag: str, *, flush: str = "", tracks: bool = False) -> None:
        """VM entry or VMRUN. Source: SDM vol. 3C, "VMX Transitions"; APM vol. 2, "TLB Control"."""
        if self.svm:
            if flush == "all" or tag == "0":
                self.flush_tag(None, nested=True)
            elif flush:
                self.flush_tag(tag, global_=flush == "one", nested=True)
            tag = "1" if tag == "0" else tag
        elif tag == "0":
            self.flush_tag("0")
        self.level, self.nested, self.tag, self.tracks = "L2", nested, tag, tracks or self.svm
        mode = self.modes["L2"]
        mode.table, mode.pcid = table, pcid if mode.pcide else 0

    def leave(self, host: str) -> None:
        """VM exit, or #VMEXIT, to a root of L1's."""
        if not self.svm and self.tag == "0":
            self.flush_tag("0")
        self.level = "L1"
        self.modes["L1"].table = host
