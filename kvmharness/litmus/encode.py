"""Rows as the guest programs have them: each action of a test as words for the code that does it."""

from collections.abc import Mapping

from kvmharness.errors import UsageError
from kvmharness.guest.layout import USER_GVA
from kvmharness.litmus.model.access import Mode
from kvmharness.litmus.model.machine import Model
from kvmharness.litmus.program import Row
from kvmharness.litmus.protocol import INTERRUPT, TAG_AT, WRITTEN_AT
from kvmharness.litmus.world import BIG_LEAF, DATA_GPA, Leaf, World, frame_gpa, gva_of, leaf_word
from kvmharness.vendors.known import litmus_of
from kvmharness.vendors.litmus import Entry, Words
from kvmharness.vendors.vendor import Vendor
from kvmharness.x86.msr import Msr
from kvmharness.x86.registers import CR3_NOFLUSH, LONG_MODE_CR0, LONG_MODE_CR4, LONG_MODE_EFER, Cr0, Cr4, Efer

_WRITTEN = 0x5757 << 48
_TYPES = {"addr": 0, "one": 1, "all": 2, "keepglobal": 3}  # of INVPCID and INVVPID
_INVEPT = {"one": 1, "all": 2}
_RESERVED = 1 << 60  # above every physical address
_EPTP_AD = 1 << 6
_EPTP_RESERVED = 1 << 11


def written(number: int) -> int:
    """What the row of this number writes to pages."""
    return _WRITTEN | number


def number_of(word: int) -> int:
    """The inverse; 0 where it is no such word."""
    return word & 0xFFFF if word >> 48 == _WRITTEN >> 48 else 0


class Encoder:
    """Turns rows into words, beside a model that has done the same rows.

    Args:
        vendor: whose virtualization L1 uses; None where there is no L2.
        world: where it takes place.
        capabilities: of the vCPU's virtualization.
        symbols: labels of the guest programs -> gpa, by who runs them.
    """

    def __init__(
        self,
        vendor: Vendor | None,
        world: World,
        capabilities: Mapping[int, int],
        symbols: Mapping[str, Mapping[str, int]],
    ) -> None:
        self._vendor, self._world = vendor, world
        self._capabilities, self._symbols = capabilities, symbols
        self._before: Entry | None = None

    def words(self, row: Row, number: int, model: Model) -> list[Words]:
        """The rows of the guest program that do a row; the last one has its answer. *model* has done it already."""
        return list(getattr(self, f"_{row.verb}")(row, number, model))

    def _control_registers(self, mode: Mode) -> tuple[int, int, int, int]:
        """CR0, CR3, CR4 and EFER of a level."""
        cr0 = int(LONG_MODE_CR0) & ~(0 if mode.wp else int(Cr0.WP))
        cr4 = (
            self._vendor.cr4(pcid=mode.pcide) if self._vendor else int(LONG_MODE_CR4 | (Cr4.PCIDE if mode.pcide else 0))
        )
        for bit, on in ((Cr4.PGE, mode.pge), (Cr4.SMEP, mode.smep), (Cr4.SMAP, mode.smap)):
            cr4 |= int(bit) if on else 0
        efer = int(LONG_MODE_EFER) & ~(0 if mode.nxe else int(Efer.NXE))
        if self._vendor:
            efer |= litmus_of(self._vendor).efer
        return cr0, self._world.root(mode.table) | mode.pcid, cr4, efer

    def _access(self, row: Row, number: int, model: Model) -> list[Words]:
        kind = row.verb.removeprefix("u")
        at = gva_of(row["probe"]) + (WRITTEN_AT if kind == "write" else TAG_AT)
        if row.verb == kind:
            return [(kind, at, written(number), 0)]
        label = self._symbols[row.who][f"user_{kind}"]
        return [("user", at, written(number), USER_GVA | label & 0xFFF)]

    _read = _write = _fetch = _uread = _uwrite = _ufetch = _access

    # Tables

    def _map(self, row: Row, number: int, model: Model) -> list[Words]:
        flags = frozenset(row.get("flags").split())
        word = leaf_word(Leaf(row["frame"], flags), old="old" in flags)
        return [("write", self._world.entry_gpa(row["table"], row["probe"]), word, 0)]

    def _unmap(self, row: Row, number: int, model: Model) -> list[Words]:
        return [("write", self._world.entry_gpa(row["table"], row["probe"]), 0, 0)]

    def _size(self, row: Row, number: int, model: Model) -> list[Words]:
        word = leaf_word(BIG_LEAF) if row["size"] == "big" else self._world.table_word(row["table"])
        return [("write", self._world.entry_gpa(row["table"], "Q"), word, 0)]

    def _emap(self, row: Row, number: int, model: Model) -> list[Words]:
        word = self._nested_word(frame_gpa(row["frame"]), row.get("rights", "rwx"))
        return [("write", self._world.nested_entry_gpa(row["nested"], row["gframe"]), word, 0)]

    def _eunmap(self, row: Row, number: int, model: Model) -> list[Words]:
        return [("write", self._world.nested_entry_gpa(row["nested"], row["gframe"]), 0, 0)]

    def _esize(self, row: Row, number: int, model: Model) -> list[Words]:
        big = row["size"] == "big"
        word = self._nested_word(DATA_GPA, "rwx", large=True) if big else self._world.table_word(row["nested"])
        return [("write", self._world.nested_entry_gpa(row["nested"], "D"), word, 0)]

    def _nested_word(self, gpa: int, rights: str, *, large: bool = False) -> int:
        assert self._vendor is not None
        return litmus_of(self._vendor).nested_word(gpa, rights, large=large)

    def _look(self, row: Row, number: int, model: Model) -> list[Words]:
        return [("read", self._world.entry_gpa(row["table"], row["probe"]), 0, 0)]

    def _elook(self, row: Row, number: int, model: Model) -> list[Words]:
        return [("read", self._world.nested_entry_gpa(row["nested"], row["gframe"]), 0, 0)]

    def _peek(self, row: Row, number: int, model: Model) -> list[Words]:
        return [("read", frame_gpa(row["frame"]) + WRITTEN_AT, 0, 0)]

    # Control registers and flushes

    def _cr3(self, row: Row, number: int, model: Model) -> list[Words]:
        mode = model.cpu(row.who).mode
        value = self._world.root(row["table"]) | mode.pcid
        return [("load_cr3", value | (CR3_NOFLUSH if row.get("noflush") and mode.pcide else 0), 0, 0)]

    def _set(self, row: Row, number: int, model: Model) -> list[Words]:
        mode = model.cpu(row.who).mode
        register, _, bit = row["bit"].partition(".")
        before = getattr(mode, bit)
        setattr(mode, bit, row["value"] == "1")  # also where it is a fault, of which the model has not done it
        cr0, _, cr4, efer = self._control_registers(mode)
        setattr(mode, bit, before)
        if register == "efer":
            return [("write_msr", int(Msr.EFER), efer, 0)]
        return [("load_cr4", cr4, 0, 0) if register == "cr4" else ("load_cr0", cr0, 0, 0)]

    def _interrupt(self, row: Row, number: int, model: Model) -> list[Words]:
        return [("interrupted", INTERRUPT, 0, 0)]

    def _invlpg(self, row: Row, number: int, model: Model) -> list[Words]:
        return [("invalidate_page", gva_of(row["probe"]), 0, 0)]

    def _invpcid(self, row: Row, number: int, model: Model) -> list[Words]:
        one = row["type"] in ("addr", "one")
        pcid = int(row.get("pcid", "0")) if one else 0
        at = gva_of(row.get("probe", "p0")) if row["type"] == "addr" else 0
        return [("invalidate_pcid", _TYPES[row["type"]], pcid, at)]

    def _invvpid(self, row: Row, number: int, model: Model) -> list[Words]:
        at = gva_of(row.get("probe", "p0")) if row["type"] == "addr" else 0
        return [("invalidate_vpid", _TYPES[row["type"]], int(row.get("tag", "0")), at)]

    def _invept(self, row: Row, number: int, model: Model) -> list[Words]:
        eptp = self._world.nested_root(row.get("nested", "E0")) if row["type"] == "one" else 0
        return [("invalidate_ept", _INVEPT[row["type"]], eptp, 0)]

    def _invlpga(self, row: Row, number: int, model: Model) -> list[Words]:
        return [("invalidate_asid", gva_of(row["probe"]), int(row["tag"]), 0)]

    # L2

    def _vmfunc(self, row: Row, number: int, model: Model) -> list[Words]:
        """KVM leaves the new EPTP in the VMCS12, so the next entry writes its own again."""
        self._before = None
        return [("switch_eptp", int(row["nested"][1]), 0, 0)]

    def _enter(self, row: Row, number: int, model: Model) -> list[Words]:
        """A of the last row is filled in by whoever knows where L2's rows lie."""
        if self._vendor is None:
            raise UsageError("there is no L2 to enter", "Run it where KVM offers nesting.")
        cpu, bad = model.cpu("L1"), row.get("bad")
        mode = cpu.modes["L2"]
        cr0, host_cr3, cr4, efer = self._control_registers(cpu.modes["L1"])
        if host := row.get("host"):
            host_cr3 = self._world.root(host) | cpu.modes["L1"].pcid
        nested = self._world.nested_root(row["nested"]) if row.get("nested") else 0
        entry = Entry(
            guest_cr3=self._world.root(row["table"])
            | (mode.pcid if not bad else 0)
            | (_RESERVED if bad == "guest" else 0),
            nested=nested | (_EPTP_AD if row.get("ad") else 0) | (_EPTP_RESERVED if bad == "nested" else 0),
            tag=int(row.get("tag", "0")),
            host_cr3=host_cr3 | (_RESERVED if bad == "host" else 0),
            host_cr0=cr0,
            host_cr4=cr4,
            host_efer=efer,
            flush=row.get("flush"),
            moves=bool(row.get("host")),
        )
        words = litmus_of(self._vendor).entry_rows(entry, self._before, self._capabilities)
        self._before = None if bad else entry
        return [*words, ("enter", 0, 0, 0)]
