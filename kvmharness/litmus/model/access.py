"""What an access gives: the rights that an entry leaves, and the fault's error code.

Source: SDM vol. 3A, "Determination of Access Rights" and "Page-Fault Exceptions"; vol. 3C, "EPT Violations"; APM
vol. 2, "Page Protection Checks" and "Nested versus Guest Page Faults, Fault Ordering".
"""

from dataclasses import dataclass

from kvmharness.litmus.world import Leaf

_P, _W, _U, _RSVD, _I = 1, 2, 4, 8, 16


@dataclass(slots=True)
class Mode:
    """The bits of control registers that decide, and the root: all that a level has of its own.

    Attributes:
        table, pcid: what CR3 selects.
    """

    table: str
    pcid: int = 0
    wp: bool = True
    pge: bool = False
    pcide: bool = False
    smep: bool = False
    smap: bool = False
    nxe: bool = True

    @property
    def context(self) -> int:
        """The PCID that translations are tagged with."""
        return self.pcid if self.pcide else 0


@dataclass(frozen=True, slots=True)
class Access:
    """Attributes: kind: "read", "write" or "fetch"; user: at CPL 3."""

    kind: str
    user: bool = False

    @classmethod
    def of(cls, verb: str) -> "Access":
        """Of a row's verb: read, uread, ..."""
        return cls(verb.removeprefix("u"), verb.startswith("u"))

    @property
    def right(self) -> str:
        """Which of r, w and x it needs."""
        return {"read": "r", "write": "w", "fetch": "x"}[self.kind]


def fault(access: Access, leaf: Leaf, mode: Mode) -> int | None:
    """The error code of the page fault, or None where the access may go on."""
    code = (_W if access.kind == "write" else 0) | (_U if access.user else 0)
    if access.kind == "fetch" and (mode.nxe or mode.smep):
        code |= _I
    if not leaf.frame:
        return code
    if "nx" in leaf.flags and not mode.nxe:
        return code | _P | _RSVD
    us, ro, nx = "us" in leaf.flags, "ro" in leaf.flags, "nx" in leaf.flags
    refused = (access.user and not us) or (not access.user and us and _kept_out(access, mode))
    refused |= access.kind == "write" and ro and (access.user or mode.wp)
    refused |= access.kind == "fetch" and nx
    return code | _P if refused else None


def _kept_out(access: Access, mode: Mode) -> bool:
    """Of pages of CPL 3, with EFLAGS.AC = 0."""
    return mode.smep if access.kind == "fetch" else mode.smap
