"""Hostile input, made from a seed: good files of every kind that the tool reads, spoilt in many small ways.

Each input is a folder or a file, and the command line that reads it. Some are written by hand: what once made a reader
fail, or is made to.
"""

import gzip
import json
import lzma
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from kvmharness.cells.cell import Cell, Setup
from kvmharness.results.document import written
from tests import builders
from tests.hostile import byhand
from tests.suites.unittests import images

SHIPPED = Path(__file__).resolve().parent.parent.parent / "kvmharness" / "series" / "fast-cr3-switch"
DATA = Path(__file__).resolve().parent.parent / "data"

# Words that mean something to one reader or another, and figures beyond what anything holds.
TOKENS = (
    *(b"\0", b"\xff", b"\xff\xfe", b"\xed\xa0\x80", b"\r", b"\r\n", b"\n\n", b"\n", b"\t", b" " * 300, b"\x1b[2J"),
    *("\u202e".encode(), b'"', b"'", b'"""', b"\\", b"[" * 3000, b"{" * 3000, b"(" * 3000, b"]", b"}", b"[[", b"#"),
    *(b"-1", b"0", b"1e999999999", b"-1e400", b"NaN", b"Infinity", b"9" * 25, b"9" * 5000, b"0x" + b"f" * 40, b"1.5"),
    *(
        b"null",
        b"true",
        b"[]",
        b"{}",
        b'""',
        b"..",
        b"../" * 20,
        b"/etc/passwd",
        b"-",
        b"--output=x",
        b"--",
        b"a" * 5000,
    ),
    *(b"@@ -999999999999,999999999999 +1 @@", b"@@ -0,0 +0,0 @@", b"--- a/x\n", b"+++ b/x\n", b"diff --git ", b"From "),
    *(
        b"[PATCH 1/1000000000]",
        b"Subject: [PATCH v2 2/2] x\n",
        b"=?utf-8?b?////?=",
        b"=?idna?q?x?=",
        b"\\ No newline\n",
    ),
    *(
        b"Content-Type: multipart/mixed; boundary=x\n",
        b"Content-Transfer-Encoding: base64\n",
        b"a." * 2000,
        b"= {a=" * 500,
    ),
    *(b"{1,2}" * 40, b"*" * 100, b"\\ud800", b"1" * 400, b"L1 ", b"L2 ", b"read p0", b"E9999999", b"]" * 400),
)


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        name: of the kind.
        command: that reads it; PATH stands for its file, or its folder.
        good: files by name, which are read without complaint, and those of them that are to be spoilt.
        folder: the command names their folder.
    """

    name: str
    command: tuple[str, ...]
    good: dict[str, bytes]
    spoilt: tuple[str, ...]
    folder: bool = False


@dataclass(frozen=True)
class Input:
    """One input: the files as they are to be written, and what reads them."""

    kind: Kind
    number: str
    files: dict[str, bytes]

    def write(self, folder: Path) -> list[str]:
        """Writes it, and gives the command line."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        named = folder if self.kind.folder else folder / next(iter(self.files))
        return [str(named) if word == "PATH" else word for word in self.kind.command]


def kinds(tree: Path) -> tuple[Kind, ...]:
    """Every kind. Args: tree: a kernel's source, to which patches apply."""
    validate = ("validate", "PATH", "--source", str(tree), "--host", "vmx")
    thread = (DATA / "mbox/lore-thread.mbox").read_bytes()
    patch = byhand.mail("[PATCH] KVM: x86: Demo")
    cells = [Cell(Setup.NO_EPT, 1, 1), Cell(Setup.EPTPS, eptps=2), Cell(Setup.L1_ALONE, 5, guest_cr3s=0)]
    run = builders.record(cells, ("none", "p1"), emulated=False, noise=0.01)
    record = run.text().encode()
    journal = _journal(json.loads(record))
    unit = images.image("mov al, 0x0")
    config = b"[one]\nfile = one.flat\nsmp = 2\nqemu_params = -cpu max,-pku -m 256\ntimeout = 5\ngroups = a b\n"
    config += b'[two]\nfile = one.flat\ntest_args = """\na b\n"""\ncheck = /sys/module/kvm/parameters/tdp_mmu=Y\n'
    suite = ("suite", "unit-tests", "--host", "vmx", "--tree", "PATH", "--list")
    modules = ("suite", "unit-tests", "--host", "vmx", "--list", "--tree", str(tree / "units"))
    modules += ("--kernel", str(tree / "bzImage"), "--modules", "PATH")
    module = b"\x7fELF" + bytes(60) + b"\0depends=\0" + bytes(100)
    kvm = {"kvm-intel.ko.xz": lzma.compress(module), "kvm.ko.gz": gzip.compress(module), "kvm-amd.ko": module}
    described = {"series.toml": (SHIPPED / "series.toml").read_bytes(), "0001.patch": patch}
    return (
        Kind("mbox", validate, {"a.mbox": thread}, ("a.mbox",)),
        Kind("patch", validate, {"a.patch": patch}, ("a.patch",)),
        Kind("gzip", validate, {"a.mbox.gz": gzip.compress(thread)}, ("a.mbox.gz",)),
        Kind("quilt", validate, {"series": b"a.patch\n", "a.patch": patch}, ("series",), folder=True),
        Kind("toml", validate, described, ("series.toml",), folder=True),
        Kind(
            "claims",
            (*validate[:1], str(tree / "a.patch"), *validate[2:], "--claims", "PATH"),
            {"a.toml": described["series.toml"]},
            ("a.toml",),
        ),
        Kind("record", ("compare", "PATH", "PATH"), {"a.json": record}, ("a.json",)),
        Kind("figures", ("compare", "PATH", "PATH"), {"a.json": record}, ("a.json",)),
        Kind("variants", ("compare", "PATH", "--variants", "none", "p1", "--json"), {"a.json": record}, ("a.json",)),
        Kind("journal", ("compare", "PATH", "PATH"), {"a.json.part": journal}, ("a.json.part",)),
        Kind("document", ("compare", "PATH", "PATH"), {"a.json": written([run], None).encode()}, ("a.json",)),
        Kind(
            "litmus",
            ("litmus", "PATH", "--list"),
            {"a.litmus": (DATA / "litmus/slot-over-mmio.litmus").read_bytes()},
            ("a.litmus",),
        ),
        Kind("unittests.cfg", suite, {"x86/unittests.cfg": config, "x86/one.flat": unit}, ("x86/unittests.cfg",), True),
        Kind("flat", suite, {"x86/unittests.cfg": config, "x86/one.flat": unit}, ("x86/one.flat",), folder=True),
        Kind("module", modules, kvm, tuple(kvm), folder=True),
        Kind(
            "kernel",
            (*modules[:-3], "PATH", "--modules", str(tree / "modules")),
            {"bzImage": (tree / "bzImage").read_bytes()},
            ("bzImage",),
        ),
    )


# What a result may hold that is JSON of the right type all the same.
_FIGURES: tuple[dict[str, object], ...] = (
    *({"samples": [value] * 12} for value in (0, -5, 1, (1 << 64) - 1, -(1 << 63), 0.5, 1e308, None, "5")),
    *({"round_trips": value} for value in (0, -1, (1 << 64) - 1, True, 1e3)),
    *({"batch_round_trips": value} for value in (0, -1, (1 << 64) - 1)),
    *({"turn": value} for value in (-1, (1 << 64) - 1)),
    *({"exits": {"VMCALL": value}} for value in (-1, (1 << 64) - 1, "1")),
    *({"id": value} for value in ("", "\ud800", "\x1b[2J", "x" * 5000, "a:99x99", "z:1x1", "\u202e")),
    *({"variant": value} for value in ("", "p9", "\udfff")),
    *({"cell": value} for value in ({}, {"setup": []}, {"a": {"b": {"c": None}}})),
    *({"probes": {"checked": value, "failures": value}} for value in (-1, 0, (1 << 64) - 1)),
    *({"predicted": {"loads": value, "switches": value}} for value in (-1, (1 << 64) - 1)),
    *({"params": value} for value in ({"": ""}, {"\x1b": "\x1b"}, {"a": "b" * 5000})),
    *({"error": {"type": value, "message": value}} for value in ("", "\x1b[2J", "x\n" * 500)),
    *({"skipped": value} for value in ("", "\u202e", "x\n" * 500)),
    {"samples": [1, (1 << 63) - 1] * 6},
)


def figures(record: bytes) -> Iterator[bytes]:
    """The record with one result, or all, of such figures."""
    for changes in _FIGURES:
        for count in (1, None):
            document = json.loads(record)
            for result in document["results"][:count]:
                result |= changes
            yield json.dumps(document).encode()


def inputs(tree: Path, seed: int, each: int) -> Iterator[Input]:
    """So many spoilt ones of each kind, and those that are written by hand."""
    for kind in kinds(tree):
        yield Input(kind, "good", kind.good)
        for number in range(each):
            random = Random(f"{seed} {kind.name} {number}")
            name = random.choice(kind.spoilt)
            yield Input(kind, str(number), kind.good | {name: spoilt(kind.good[name], random)})
        more = figures(kind.good["a.json"]) if kind.name == "figures" else byhand.FILES.get(kind.name, ())
        for number, files in enumerate(more):
            named = dict(zip(kind.spoilt, [files], strict=False)) if isinstance(files, bytes) else files
            yield Input(replace(kind), f"by hand {number}", kind.good | named)


def spoilt(content: bytes, random: Random) -> bytes:
    """The content with one to four changes."""
    for _ in range(random.randint(1, 4)):
        start, end = sorted(random.randrange(len(content) + 1) for _ in range(2))
        end = min(end, start + 200)
        part, token = content[start:end], random.choice(TOKENS)
        made = random.choice(
            (
                lambda part, token: b"",
                lambda part, token: token,
                lambda part, token: part + token,
                lambda part, token: part * random.choice((2, 50)),
                lambda part, token: bytes(byte ^ 1 << random.randrange(8) for byte in part),
                lambda part, token: part[::-1],
            )
        )(part, token)
        content = content[:start] + made + content[end:]
        if random.random() < 0.1:
            content = content[: random.randrange(len(content) + 1)]
        if random.random() < 0.5:
            content = _word(content, token, random)
    return content


def _word(content: bytes, token: bytes, random: Random) -> bytes:
    """One of its words or figures replaced."""
    words = content.split(b" ")
    words[random.randrange(len(words))] = token
    return b" ".join(words)


def _journal(document: dict[str, object]) -> bytes:
    results = document.pop("results")
    for name in ("tests", "partial"):
        document.pop(name)
    assert isinstance(results, list)
    return b"\n".join(json.dumps(row).encode() for row in ({"journal": document}, *results)) + b"\n"
