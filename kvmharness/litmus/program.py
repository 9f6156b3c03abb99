"""The language of litmus tests: a row a line, ``who verb operands``, read into values and printed back unchanged.

``L1 map H0 p0 d7 ro`` is L1 writing the leaf of probe page 0 in its own table 0; ``L2 read p0`` is L2 reading there.
What is written down, replayed, shrunk, generated and reported is the same text.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kvmharness.errors import UsageError

ROOTS = 4  # page tables of each level: H0 to H3 are L1's, G0 to G3 are L2's
NESTED = 3  # EPTs, or what the vendor has in their place: E0 to E2
PROBES = ("p0", "p1", "p2", "p3", "q0")  # pages that are read, written and fetched from; q0 has a PDE of its own
FRAMES = 64  # d0 to d63: pages of memory
HOLES = 8  # m0 to m7: pages where there is no memory
ROWS_MAX = 5000

_PROBE = "(?P<probe>p[0-3]|q0)"
_BACKED = "d[0-9]|d[1-5][0-9]|d6[0-3]"
_ANY = f"{_BACKED}|m[0-7]"
_PAGE = "d[0-9]|d[1-9][0-9]|d1[0-8][0-9]|d19[01]"  # those of the nested tables too
_ROOT = "(?P<table>[HG][0-3])"
_NESTED = "(?P<nested>E[0-2])"
_TAG = "(?P<tag>[0-9]|1[0-5])"
_PCID = "( pcid=(?P<pcid>[0-7]))?"
_GUEST = "L1 L2 V1"

# verb -> who may do it, and its operands
_VERBS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("read", "write", "fetch", "uread", "uwrite", "ufetch"), (_GUEST, _PROBE)),
    "map": (_GUEST, f"{_ROOT} {_PROBE} (?P<frame>{_ANY})(?P<flags>( (ro|us|nx|g|old))*)"),
    "unmap": (_GUEST, f"{_ROOT} {_PROBE}"),
    "size": (_GUEST, f"{_ROOT} (?P<size>big|small)"),  # of the page behind q0
    "look": (_GUEST, f"{_ROOT} {_PROBE}"),  # at the A and D bits
    "emap": (_GUEST, f"{_NESTED} (?P<gframe>{_BACKED}) (?P<frame>{_PAGE}|m[0-7])( (?P<rights>r|rw|rx|x|rwx))?"),
    "eunmap": (_GUEST, f"{_NESTED} (?P<gframe>{_BACKED})"),
    "esize": (_GUEST, f"{_NESTED} (?P<size>big|small)"),
    "elook": (_GUEST, f"{_NESTED} (?P<gframe>{_BACKED})"),
    "peek": ("L1 V1", f"(?P<frame>{_PAGE})"),  # at what was written to a page
    "cr3": (_GUEST, f"{_ROOT}{_PCID}(?P<noflush> noflush)?"),
    "set": (_GUEST, r"(?P<bit>cr4\.(pge|pcide|smep|smap)|cr0\.wp|efer\.nxe)=(?P<value>[01])"),
    "invlpg": (_GUEST, _PROBE),
    "invpcid": (_GUEST, f"(?P<type>addr|one|all|keepglobal){_PCID}( {_PROBE})?"),
    "invvpid": ("L1", f"(?P<type>addr|one|all|keepglobal)( tag={_TAG})?( {_PROBE})?"),
    "invept": ("L1", f"(?P<type>one|all)( {_NESTED})?"),
    "invlpga": ("L1", f"{_PROBE} tag={_TAG}"),
    "enter": (
        "L1",
        f"{_ROOT}( {_NESTED}(?P<ad> ad)?)?{_PCID}( tag={_TAG})?"
        "( host=(?P<host>H[0-3]))?( flush=(?P<flush>all|one|keepglobal))?( bad=(?P<bad>guest|host|nested))?",
    ),
    "vmfunc": ("L2", _NESTED),
    "interrupt": (_GUEST, ""),  # the host injects one while interrupts are let in
    "slot": ("host", "(?P<what>delete|add|move|readonly|writable)"),
    "dirty": ("host", "(?P<what>start|get|clear|stop|manual|automatic)"),
    "nested": ("host", ""),
    "count": ("host", ""),  # reads KVM's statistics
    "migrate": ("host", ""),
    "sregs": ("host", ""),
}
VERBS = tuple(_VERBS)
WORDS = {
    "TABLE": "H0 to H3, tables of L1; G0 to G3, tables for L2",
    "NESTED": "E0 to E2, EPTs or NPTs",
    "PROBE": f"{', '.join(PROBES)}: pages that are read, written and fetched from; q0 has a PDE of its own",
    "FRAME, GFRAME": "d0 to d63, pages of memory; m0 to m7, where there is none; d64 to d191, pages of L1 for EPTs",
    "PCID": "0 to 7",
    "TAG": "0 to 15, the VPID or ASID of L2",
    "HOST": "H0 to H3, where L1 goes on",
}
"""Operands that stand for several -> what they may be; the others are written as the forms show them."""
_HYPERVISORS = frozenset({"enter", "invvpid", "invept", "invlpga", "emap", "eunmap", "esize", "elook"})
_COMPILED = {verb: re.compile(operands) for verb, (_, operands) in _VERBS.items()}


def forms() -> dict[str, tuple[str, str]]:
    """How the rows of each verb are written: who may do it, and its operands, brackets around what may be left out."""
    return {verb: (who.replace(" ", "|"), _form(operands)) for verb, (who, operands) in _VERBS.items()}


def _form(operands: str) -> str:
    names = "|".join(WORDS).replace(", ", "|").lower()
    left = re.sub(rf"\(\?P<({names})>[^()]*\)", lambda found: found[1].upper(), operands)
    left = re.sub(r"\?P<\w+>", "", left.replace("[01]", "0|1").replace("\\.", "."))
    while (inner := _GROUP.sub(_written, left)) != left:  # the innermost ones first
        left = inner
    return re.sub(r"\[{([^{}]*)}\]", r"[\1]", left.replace("[ ", " ["))


_GROUP = re.compile(r"\((?P<content>[^()]*)\)(?P<often>[?*]?)")


def _written(group: re.Match[str]) -> str:
    content, often = group["content"], group["often"]
    if often:
        return f"[{content}]" + "..." * (often == "*")
    return f"{{{content}}}" if "|" in re.sub(r"\{[^}]*\}", "", content) else content


@dataclass(frozen=True, slots=True)
class Row:
    """One action.

    Attributes:
        who: "L1", "L2", "V1" (L1 on the other vCPU) or "host".
        verb: what is done.
        operands: by name; those that are not given are missing.
        text: the row as it is written.
    """

    who: str
    verb: str
    operands: Mapping[str, str] = field(compare=False)
    text: str

    def __str__(self) -> str:
        return self.text

    def __getitem__(self, name: str) -> str:
        return self.operands[name]

    def get(self, name: str, default: str = "") -> str:
        """An operand, or the default where it is not given."""
        return self.operands.get(name, default)

    @classmethod
    def parse(cls, text: str) -> "Row":
        """Reads a row.

        Raises:
            UsageError: it is none; says what is wrong with it.
        """
        who, _, rest = " ".join(text.split()).partition(" ")
        verb, _, operands = rest.partition(" ")
        if verb not in _VERBS:
            raise UsageError(
                f"{text.strip()!r}: no row does {verb!r}", f"Rows are 'who verb ...'; verbs: {', '.join(VERBS)}."
            )
        doers = _VERBS[verb][0].split()
        if who not in doers:
            raise UsageError(f"{text.strip()!r}: {verb} is done by {' or '.join(doers)}, not by {who!r}")
        match = _COMPILED[verb].fullmatch(operands)
        if match is None:
            raise UsageError(
                f"{text.strip()!r}: {operands!r} is not what {verb} takes",
                f"It takes {forms()[verb][1] or 'nothing'}; `kvmharness help litmus` says what that is.",
            )
        given = {name: value.strip() for name, value in match.groupdict().items() if value is not None}
        return cls(who, verb, given, f"{who} {verb} {operands}".rstrip())


@dataclass(frozen=True, slots=True)
class Program:
    """A litmus test.

    Attributes:
        name: of letters, digits and dashes.
        rows: in the order in which they happen.
        rule: number of the rule of which it is a case, or 0.
        why: what is lost when it fails, in one sentence.
    """

    name: str
    rows: tuple[Row, ...]
    rule: int = 0
    why: str = ""

    def __post_init__(self) -> None:
        if not 1 <= len(self.rows) <= ROWS_MAX:
            raise UsageError(f"{self.name}: {len(self.rows)} rows; a litmus test has 1 to {ROWS_MAX}")
        inside = False
        for row in self.rows:
            if row.who == "L2" and not inside:
                raise UsageError(
                    f"{self.name}: {row} stands where L1 has not entered L2", "Write 'L1 enter G0' before it."
                )
            inside = row.verb == "enter" or (inside and row.who in ("L2", "host"))

    @property
    def nested(self) -> bool:
        """Whether L1 is a hypervisor in it."""
        return any(row.verb in _HYPERVISORS for row in self.rows)

    @property
    def text(self) -> str:
        """As :func:`parse` reads it."""
        head = [f"# {self.why}"] if self.why else []
        return "\n".join([f"name: {self.name}", *head, *(row.text for row in self.rows), ""])


def program(name: str, text: str, *, rule: int = 0, why: str = "") -> Program:
    """A test from its rows, one a line; blank lines and what follows a # do not count.

    Raises:
        UsageError: naming the line.
    """
    return Program(name, tuple(_rows(text.splitlines())), rule, why)


def parse(text: str, name: str = "program") -> Program:
    """What :attr:`Program.text` gives, or rows alone.

    Raises:
        UsageError: naming the line.
    """
    lines = text.splitlines()
    if lines and lines[0].startswith("name:"):
        name = lines[0].partition(":")[2].strip() or name
        lines = ["", *lines[1:]]
    return Program(name, tuple(_rows(lines)))


def _rows(lines: Iterable[str]) -> Iterable[Row]:
    for number, line in enumerate(lines, start=1):
        if text := line.partition("#")[0].strip():
            try:
                yield Row.parse(text)
            except UsageError as error:
                raise UsageError(f"line {number}: {error}", error.hint) from None
