"""What `kvmharness help TOPIC` says: made of the tables that the code goes by, so that it cannot say otherwise."""

from collections.abc import Callable, Iterable
from re import sub
from textwrap import fill, indent
from typing import NamedTuple

from kvmharness.errors import ExitCode

WIDTH = 100

EXIT_CODES = {
    ExitCode.PASS: "pass: every claim holds; every count equals the prediction",
    ExitCode.FAIL: "fail: a claim does not hold, a translation was stale, a count differs, a guest or the kernel died, "
    "a series does not build",
    ExitCode.USAGE: "usage: the request or an input file is wrong; nothing was run",
    ExitCode.INCONCLUSIVE: "inconclusive: the figures allow neither: noise, or something could not be counted",
    ExitCode.SKIPPED: "skipped: this host cannot run it; the reason says how to",
    ExitCode.LOST: "lost: the emulated host or another piece of infrastructure failed: no verdict on the kernel",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C",
}

_CLAIM = """\
[[claim]]
name = "p2-saves-loads-of-l2"
text = "With three EPTPs, each used twice in a row, one root load per round trip without patch 2."
metric = "loads"
check = "exactly"
value = 1
cells = "c:3/AABB*"
variants = ["none", "p1"]

[[waive]]
row = "no-more-time"
cells = "d:*"
reason = "The current root is compared first, which costs a MOV-CR3 some instructions.\""""


class Topic(NamedTuple):
    """One thing that help can be had about."""

    summary: str
    text: Callable[[], str]


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Words and what they mean, in two columns."""
    rows = list(rows)
    column = max(len(word) for word, _ in rows) + 4
    return "\n".join(
        fill(
            text or "-",
            WIDTH,
            initial_indent=f"  {word}".ljust(column),
            subsequent_indent=" " * column,
            break_on_hyphens=False,
            break_long_words=False,
        )
        for word, text in rows
    )


def _sections(*parts: str) -> str:
    return "\n\n".join(parts)


def _titled(title: str, rows: Iterable[tuple[str, str]]) -> str:
    return f"{title}\n{table(rows)}"


def _paragraph(text: str) -> str:
    return fill(text, WIDTH, break_on_hyphens=False, break_long_words=False)


def _exit_codes() -> str:
    return _sections(
        _titled("What a command ends with:", ((str(code.value), EXIT_CODES[code]) for code in ExitCode)),
        _paragraph(
            "bisect, and validate --bisect, answer git: 0 for a good commit, 1 for a bad one, and 125, by which git "
            "leaves it out, for all else. Of several results the worst one counts."
        ),
    )


def _cells() -> str:
    from kvmharness.cells.language import explain

    return _sections(explain(), "kvmharness run --list shows the default ones.")


def _claims() -> str:
    from kvmharness.claims import metrics, net, vocabulary, waivers

    return _sections(
        _paragraph(
            "A series says what it promises in the series.toml beside its patches, or in a file for --claims: tables "
            "[[claim]], and [[waive]] for what it does not want to be judged by."
        ),
        indent(_CLAIM, "  "),
        _titled("Keys of [[claim]]:", vocabulary.KEYS.items()),
        _titled("check:", ((str(check), check.words) for check in vocabulary.Check)),
        _titled("metric:", metrics.WORDS.items()),
        _titled("Keys of [[waive]]:", waivers.KEYS.items()),
        _titled(
            "Rows of the safety net, always in force: nothing is worse with the series than without it.",
            ((row.name, row.text) for row in net.ROWS),
        ),
        "Beside these, which can be waived, stand every-prefix-builds and modules-load-and-unload, which cannot.",
    )


def _variants() -> str:
    from kvmharness.patches.variants import memberships

    def members(count: int) -> Iterable[tuple[str, str]]:
        for name, which in memberships(count).items():
            kind = {0: "without the series", count: "the whole series"}.get(len(which), "")
            kinds = [kind] if kind else ["alone"] * (len(which) == 1) + ["a prefix"] * (which[0] == 0)
            yield name, f"{', '.join(f'patch {index + 1}' for index in which) or 'no patch'}: {', and '.join(kinds)}"

    return _sections(
        _paragraph(
            "A variant is a kernel, or KVM's modules for one. A series that the kernel has already is taken out of it "
            "first. Judged are none and what bisecting meets, the prefixes; a patch alone is there for information, "
            "and for claims that name it, where it applies and builds alone."
        ),
        *(_titled(f"Of a series of {count} patches:", members(count)) for count in (2, 4)),
        "A series of one patch has none and p1. The variant of a run without a series is called host.",
    )


def _hosts() -> str:
    from kvmharness.hosts import catalogue, needs

    def described(host: catalogue.EmulatedHost) -> tuple[str, str]:
        names = f"{host.name}, {host.spec}" if host.spec != host.name else host.name
        offers = ", ".join(need for need in host.offers if need not in common)
        return names, f"{host.emulator.title} {host.model}: {offers}"

    common = [need for need in needs.NEEDS if all(need in host.offers for host in catalogue.HOSTS)]
    return _sections(
        _titled(
            "--host says where to run; `kvmharness doctor` what of it can run here:",
            [("local", "this machine's own /dev/kvm"), *map(described, catalogue.HOSTS)],
        ),
        f"All emulated ones offer {', '.join(common)} as well.",
        _titled(
            'What a host can offer, and a test can need, by @pytest.mark.needs("ept", "kernel>=6.1", "kvm.tdp_mmu=Y"):',
            ((name, need.summary) for name, need in needs.NEEDS.items()),
        ),
    )


def _litmus() -> str:
    from kvmharness.litmus import program
    from kvmharness.litmus.named.all import select
    from kvmharness.litmus.named.entry import RULES

    (example,) = select(("invept-one",))
    return _sections(
        _paragraph(
            "A litmus test is rows of L1, L2, V1 (L1 on another vCPU) and the host, one after the other. A model of "
            "the SDM and APM says which answers each may give. # begins a comment."
        ),
        _paragraph(f"For example, {example.name}; where it fails, {example.why}"),
        indent("\n".join(map(str, example.rows)), "  "),
        _titled(
            "Rows, [...] what may be left out and {...} a choice:",
            ((f"{who} {verb}", form) for verb, (who, form) in program.forms().items()),
        ),
        _titled("Operands:", program.WORDS.items()),
        _titled(
            "Rules that the named tests are cases of; `kvmharness litmus --list` shows the tests:",
            ((str(number), rule) for number, rule in RULES.items()),
        ),
    )


def _api() -> str:
    from importlib import import_module
    from inspect import cleandoc

    rooms = ("kvm", "guest", "cells", "litmus", "hosts", "measure", "results", "validation", "abi", "x86", "vendors")
    docs = {name: cleandoc(import_module(f"kvmharness.{name}").__doc__ or "") for name in rooms}
    return _sections(
        _paragraph("From Python, from the objects over /dev/kvm upwards; from pytest, see the README."),
        _titled("Packages:", ((f"kvmharness.{name}", doc.partition("\n")[0]) for name, doc in docs.items())),
        sub(r":\w+:`([^`]*)`", r"\1", docs["kvm"].partition("\n")[2].strip()),
    )


TOPICS = {
    "api": Topic("the package from Python, and where to start", _api),
    "cells": Topic("how measured cells are written: set-ups, marks, module parameters", _cells),
    "claims": Topic("what a series can promise: checks, metrics; and the rows of the safety net", _claims),
    "exit-codes": Topic("what a command ends with", _exit_codes),
    "hosts": Topic("where things run, and what each host offers", _hosts),
    "litmus": Topic("how litmus tests are written: rows, operands, rules", _litmus),
    "variants": Topic("what the kernels of a series are called", _variants),
}
